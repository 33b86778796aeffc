"""What a first DAG can render, in the package itself: `from airflow_brayns.examples import NEURON`."""

from __future__ import annotations

from pathlib import Path

NEURON = str(Path(__file__).with_name("neuron.swc"))
"""Path of a small pyramidal cell (SWC, 90 kB), grown by `dags/scenes/grow_neuron.py`; free to use for anything."""
