"""The page in Airflow's UI: what tasks and triggers have stored about services and movies. No cluster is asked for it."""

from pathlib import Path

FILES = Path(__file__).parent / "static"
