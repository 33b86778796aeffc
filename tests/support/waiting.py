"""Waits for a booking whose cluster answers as a test says."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.services.waiting import Waiting
from tests.support.shell import FakeShell, coded

NAME = "ab-0123456789ab000"
Looks = Callable[[int], str | BaseException]


def waiting(
    looks: Looks | str, *parts: str, since: datetime | None = None, **settings: Any
) -> tuple[Waiting, FakeShell]:
    """A wait for a booking of one allocation, or of several.

    :param looks: what the look of that number (from 0) finds, or what each does.
    """
    number = itertools.count()

    async def answer(script: str) -> str | BaseException:
        if "\npost_mortem ab-" in script:
            return f"sacct {coded('OUT_OF_MEMORY')}\nkeeper {coded('the keeper went')}\n"
        if (look_number := next(number)) and (patience := re.search(r"\nlook_for [0-9]+ ([0-9]+) ", script)):
            await asyncio.sleep(int(patience[1]))
        return looks if isinstance(looks, str) else looks(look_number)

    shell = FakeShell(answer)
    names = parts or (NAME,)
    booking = Booking("ab-0123456789ab", tuple(Allocation(name, 1, "77", folder=f"/s/{name}/1") for name in names))
    read = ClusterSettings.read({"scheduler": "slurm", "poll_interval": 10, **settings})
    poller = Poller(SlurmCluster(shell), read.poll_interval)
    return Waiting(Session(poller, read, logging.getLogger("waiting")), booking, since=since), shell


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)
