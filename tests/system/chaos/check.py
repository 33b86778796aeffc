"""Whether what a run handed on is what it promised: an endpoint that is its own, a movie without gaps."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from airflow_brayns.movie.encode import ffmpeg
from tests.support.movie import records
from tests.system.chaos.ledger import Ledger


def movie_trouble(folder: Path, frames: int) -> str:
    """What is wrong with a movie that is called done; empty if nothing is."""
    try:
        found = {record["frame"]: record for record in records(folder / "frames")}
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read: {error}"
    if missing := sorted(set(range(frames)) - set(found)):
        return f"frames {missing} are not in the manifest"
    for number, record in sorted(found.items()):
        file = folder / "frames" / record["file"]
        if not file.exists():
            return f"frame {number} is not there"
        if hashlib.sha256(file.read_bytes()).hexdigest() != record["sha256"]:
            return f"frame {number} is not as the manifest says"
    command = [ffmpeg(), "-i", str(folder / "movie.mp4"), "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    decoded = [int(number) for number in re.findall(r"frame=\s*(\d+)", told.stderr)]
    if told.returncode or not decoded or decoded[-1] != frames:
        return f"the movie decodes to {decoded[-1:]} frames, not {frames}: {told.stderr[-300:]}"
    return ""


def endpoint_trouble(ledger: Ledger, run_id: str, told: dict[str, Any], plugins: list[str]) -> str:
    """What is wrong with an endpoint that was handed on; empty if nothing is, or if nobody can tell any more."""
    if told["endpoint"] is None or not told["services"]:
        return ""  # what was handed on was cleared before it was read
    machine, _, port = told["endpoint"].rpartition(":")
    seen = ledger.at(machine, int(port), told.get("answered") or told["at"])
    ours = [one for one in seen if one.run == run_id]
    jobs = {str(one["job_id"]) for one in told["services"] if one["endpoint"] == told["endpoint"]}
    if not ours and seen:
        return f"{told['endpoint']} belongs to {seen[0]}"
    if ours and jobs and not jobs & {one.job_id for one in ours}:
        return f"{told['endpoint']} is of job {ours[0].job_id}, not of {jobs}"
    if (answer := told["answer"]) is None:
        return ""  # it was killed between
    if not seen:
        return f"nobody was ever seen to listen at {told['endpoint']}, and something answered"
    if seen[0].run != run_id and seen[0].last > ours[0].last + 2:
        return f"{told['endpoint']} was ours, and was answered by {seen[0]}"
    if lacking := sorted(set(plugins) - set(answer["plugins"])):
        return f"{told['endpoint']} lacks {', '.join(lacking)}"
    return "" if answer["version"] else f"{told['endpoint']} tells no version"


def used(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What tasks wrote about the endpoints that they were handed."""
    found = []
    for file in sorted(folder.glob("used.*.json")):
        try:
            found.append((file, json.loads(file.read_text())))
        except (OSError, ValueError):
            continue
    return found
