"""A booking is given more time: by its own jobs, or by others that follow on them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.extension import Granted
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import AllocationLost
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.extending import Extended, extend
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.shell import FakeShell, coded, look, service

NAME = "ab-0123456789ab"
BOOKING = Booking(NAME, (Allocation(f"{NAME}000", 1, "77"),))
UNTIL = datetime(2026, 11, 27, 12, 0, 0, 5, tzinfo=UTC)
PARTS = {"command": "exec braynsService\n", "index": "1\n", "port": "0\n", "port.sed": ""}
COMMAND = "".join(f"part {name} {coded(text)}\n" for name, text in PARTS.items())


def answering(**answers: str) -> tuple[Session, FakeShell]:
    """A session with a cluster that answers each command as a test says."""

    def answer(script: str) -> str:
        asked = script.rstrip("\n").rsplit("\n", 1)[-1].split(" ")[0]
        return answers[{"look_for": "look"}.get(asked, asked)]

    shell = FakeShell(answer)
    settings = ClusterSettings.read({"scheduler": "slurm", "account": "proj3"})
    return Session(Poller(SlurmCluster(shell), 10), settings, logging.getLogger("x")), shell


async def given_time(session: Session) -> list[Extended]:
    return await extend(session, BOOKING, Owner(NAME, "me", "about"), 3600, UNTIL)


@pytest.mark.parametrize("word", ["room", "raised", "waits"])
async def test_where_a_job_has_or_gets_the_time_nothing_is_submitted(word: str) -> None:
    session, shell = answering(extend=f"newest 1 77 2026\n{word}\n")
    assert await given_time(session) == [Extended(Granted(word), "77")]
    assert shell.last() == f"extend {NAME}000 3720 2026-11-27T12:00:00+00:00", "and the time before Slurm's end of it"
    assert shell.commands == 1


async def test_where_it_is_refused_the_same_again_follows_on_the_newest_one() -> None:
    """A second extension is of the job that followed on the first."""
    seen = look(nodes=("n1", "n2"), services=[service("brayns1", exited="1 it ended"), service("brayns2", port=5000)])
    session, shell = answering(
        extend=f"newest 2 78 2026\nrefused 1 {coded('Access/permission denied')}\n",
        look=seen.replace("allocation ab-0123456789ab000 1", "allocation ab-0123456789ab000 2"),
        command_of=COMMAND,
        submit="incarnation 3\nadopted 0\njob 79 2026\nfolder /s/3\n",
    )
    assert await given_time(session) == [Extended(Granted.REFUSED, "79", "Access/permission denied")]
    assert shell.last() == f"submit {NAME}000 me 2"
    assert "command_of ab-0123456789ab000 2 brayns2" in shell.scripts[-2], "one that lives"
    assert "--account=proj3" in shell.scripts[-1] and "--nodes=2 " in shell.scripts[-1]
    assert shell.scripts[-1].count("exec braynsService") == 2


async def test_nothing_follows_on_what_has_no_service_any_more() -> None:
    session, _ = answering(
        extend=f"newest 1 77 2026\nrefused 1 {coded('denied')}\n", look=look(services=[service(exited="1 it ended")])
    )
    with pytest.raises(AllocationLost, match="Job 77 has no service any more"):
        await given_time(session)
