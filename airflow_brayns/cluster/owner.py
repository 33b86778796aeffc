"""Owners of allocations: which Airflow, run and task asked, as the allocation's name, its folder and its job's comment
tell it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, astuple, dataclass
from typing import Any

from airflow_brayns.cluster.allocation import AllocationStatus


@dataclass(frozen=True)
class RunOf:
    """The task, and the DAG run of it, that an allocation was asked for."""

    dag_id: str
    run_id: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.dag_id} {self.run_id} {self.task_id}"


@dataclass(frozen=True)
class About:
    """The note in an allocation's folder that tells whose it is and what it is for; it is written and read in this
    class only.

    :param installation: the `installation_id` of the Airflow that asked; empty where the note does not tell.
    :param run: the task and run that it is for; None where the note does not tell.
    :param deployment: which of the Airflows with that mark asked; empty in notes of 0.2.0.
    :param map_index: the task's index where it is mapped, else -1; it is written, and not read back.
    """

    installation: str = ""
    run: RunOf | None = None
    deployment: str = ""
    map_index: int = -1

    @classmethod
    def read(cls, text: str) -> About:
        """Read a note as `str` writes it; a text of another form tells nothing."""
        try:
            told: Any = json.loads(text)
            known = {name: str(told[name]) for name in ("dag_id", "run_id", "task_id") if name in told}
            run = RunOf(**known) if len(known) == 3 else None
            return cls(str(told.get("installation") or ""), run, str(told.get("deployment") or ""))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def __str__(self) -> str:
        assert self.run is not None
        told = {"installation": self.installation, **asdict(self.run), "deployment": self.deployment}
        return json.dumps({**told, "map_index": self.map_index})

    @property
    def movie(self) -> str:
        """The movie that the task renders, by name: the same for every try of one task instance."""
        assert self.run is not None
        return f"{self.run.dag_id}/{self.run.run_id}/{self.run.task_id}/{self.map_index}"

    @property
    def name(self) -> str:
        """The name that the task's allocations share: the same for every try of one task instance, and for nothing
        else.
        """
        assert self.run is not None
        text = "\0".join((self.installation, *astuple(self.run), str(self.map_index)))
        return "ab-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Owner:
    """Who asks for nodes, and what for: one try of a task, or a preview.

    :param name: what the names of its allocations begin with; the same for every try.
    :param token: the try's own: who has it may give back what is under that name, until another try takes it over.
    :param about: what the folders of its allocations tell, see `About`.
    :param movie: whose the frames are that it renders, whichever try: another movie does not render with the same
        services, or into the same folder, at the same time.
    """

    name: str
    token: str
    about: str = ""
    movie: str = ""

    @classmethod
    def of(cls, about: About, token: str) -> Owner:
        """One try of a task."""
        return cls(about.name, token, str(about), about.movie)


def part_name(name: str, part: int) -> str:
    """The name of one allocation of a booking; the first part is 0."""
    return f"{name}{part:03x}"


def part_of(name: str) -> int:
    """The reverse of `part_name`: which part of its booking an allocation is; 0 for a name that tells of none."""
    found = re.fullmatch(r"ab-[0-9a-f]{12}([0-9a-f]{3,4})", name)
    return int(found[1], 16) if found else 0


def mark(installation: str) -> str:
    """The mark of an Airflow, its `installation_id`, as a job's comment holds it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", installation)[:64]


def comment(name: str, about: str) -> str:
    """The comment of a job: whose the job is, and what an admin wants to read in squeue.

    :param name: the allocation's name, for one without a note.
    :param about: the note of its folder, as `About` writes it.
    """
    told = About.read(about)
    if told.installation and told.run:
        what, deployment = "/".join(astuple(told.run)), re.sub(r"[^A-Za-z0-9_.:-]+", "_", told.deployment)[:120]
    else:
        told, what, deployment = About(), about or name, ""
    readable = re.sub(r"[^A-Za-z0-9_.:/+@=-]+", "_", what)[:200]
    return f"airflow-brayns:{mark(told.installation)}:{readable}" + (f"#{deployment}" if deployment else "")


def deployment_in(comment: str) -> str:
    """The deployment that a job was asked for by, as its comment tells it; empty where it tells none."""
    return comment.rpartition("#")[2] if "#" in comment else ""


def whose(status: AllocationStatus) -> tuple[str, str]:
    """The mark and the deployment of the Airflow that asked for an allocation; each is empty where its folder does not
    tell.
    """
    about = About.read(status.about)
    return about.installation, about.deployment


def run_of(status: AllocationStatus, installation: str) -> RunOf | None:
    """The task and run that an allocation of this Airflow was asked for; None where it is another's, or its folder does
    not tell.
    """
    about = About.read(status.about)
    return about.run if about.installation == installation else None
