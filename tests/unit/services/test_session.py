"""All who work with the same cluster in one process share its poller, and so one connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.services.session import shared_poller
from airflow_brayns.services.settings import ClusterSettings
from tests.support.shell import FakeShell


class Makes:
    """Makes clusters, and counts them; each asks for its login when the test says."""

    def __init__(self) -> None:
        self.shells: list[FakeShell] = []
        self.logins: list[Any] = []

    def __call__(self, settings: ClusterSettings, read_login: Any) -> SlurmCluster:
        self.shells.append(FakeShell())
        self.logins.append(read_login)
        return SlurmCluster(self.shells[-1], state_dir=settings.state_dir)


def settings(**values: Any) -> ClusterSettings:
    return ClusterSettings.read({"scheduler": "slurm", "ssh_conn_id": "login", **values})


async def login(ssh_conn_id: str) -> Any:
    return f"the first says of {ssh_conn_id}"


async def changed_login(ssh_conn_id: str) -> Any:
    return f"the second says of {ssh_conn_id}"


async def test_the_same_cluster_is_connected_to_once_and_let_go_by_the_last() -> None:
    makes = Makes()
    async with shared_poller(settings(), makes, login) as one:
        async with shared_poller(settings(idle_limit=7, partition="prod"), makes, login) as other:
            assert one is other
        assert makes.shells[0].closed == 0
    assert len(makes.shells) == 1
    assert makes.shells[0].closed == 1


@pytest.mark.parametrize("other", [{"state_dir": "/other"}, {"ssh_conn_id": "another"}])
async def test_another_cluster_is_another_connection(other: dict[str, Any]) -> None:
    makes = Makes()
    async with shared_poller(settings(), makes, login) as one, shared_poller(settings(**other), makes, login) as two:
        assert one is not two
    assert [shell.closed for shell in makes.shells] == [1, 1]


async def test_one_who_comes_after_the_last_has_gone_connects_anew() -> None:
    makes = Makes()
    for _ in range(2):
        async with shared_poller(settings(), makes, login):
            pass
    assert [shell.closed for shell in makes.shells] == [1, 1]


async def test_the_login_is_what_whoever_came_last_says_of_it() -> None:
    """Keys are changed and hosts move while somebody always waits."""
    makes = Makes()
    async with shared_poller(settings(), makes, login):
        assert await makes.logins[0]("login") == "the first says of login"
        async with shared_poller(settings(), makes, changed_login):
            assert await makes.logins[0]("login") == "the second says of login"


async def test_who_fails_lets_go_too() -> None:
    makes = Makes()

    async def fails() -> None:
        async with shared_poller(settings(), makes, login):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert makes.shells[0].closed == 1


def test_each_loop_has_its_own() -> None:
    makes, seen = Makes(), []

    async def once() -> None:
        async with shared_poller(settings(), makes, login) as one:
            seen.append(one)

    for _ in range(2):
        asyncio.run(once())
    assert len(makes.shells) == 2
