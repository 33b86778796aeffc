"""Whether what a run handed on is what it promised: an endpoint that is its own, a movie without gaps."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.movie import records
from tests.system.chaos.ledger import Ledger

PROVEN = 8.0  # seconds: so old a proof may be when it is handed on, and who listens is looked at now and then


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


def endpoint_trouble(
    ledger: Ledger, run_id: str, told: dict[str, Any], plugins: list[str], handed: float | None
) -> tuple[str, bool]:
    """What is wrong with an endpoint that was handed on, empty if nothing is; and whether another service has got its port
    after that, which a fixed port allows.

    :param handed: when it was handed on, where Airflow still knows.
    """
    endpoint = told["endpoint"]
    if endpoint is None or not told["services"]:
        return "", False  # what was handed on was cleared before it was read
    machine, _, port = endpoint.rpartition(":")
    seen = ledger.at(machine, int(port), told.get("answered") or told["at"])
    ours = [one for one in seen if one.run == run_id]
    jobs = {str(one["job_id"]) for one in told["services"] if one["endpoint"] == endpoint}
    answer = told["answer"]
    if not ours:
        if seen:
            return f"{endpoint} belongs to {seen[0]}", False
        return (f"nobody was ever seen to listen at {endpoint}, and something answered" if answer else ""), False
    if jobs and not jobs & {one.job_id for one in ours}:
        return f"{endpoint} is of job {ours[0].job_id}, not of {jobs}", False
    last = ours[0].last
    if handed is not None and last < handed - PROVEN and ledger.has_looked(last, handed - PROVEN):
        return f"{endpoint} had ended {handed - ours[0].last:.0f} s before it was handed on", False
    if seen[0].run != run_id and seen[0].last > ours[0].last + 2:
        return "", answer is not None
    if answer is None:
        return "", False  # it was killed between
    if lacking := sorted(set(plugins) - set(answer["plugins"])):
        return f"{endpoint} lacks {', '.join(lacking)}", False
    return ("" if answer["version"] else f"{endpoint} tells no version"), False


def used(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What tasks wrote about the endpoints that they were handed."""
    found = []
    for file in sorted(folder.glob("used.*.json")):
        try:
            found.append((file, json.loads(file.read_text())))
        except (OSError, ValueError):
            continue
    return found
