"""The keeper itself, run by real shells on this machine, with services that are small shell scripts or `nc`-like Python."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import AllocationStatus
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import file_text, script_of
from airflow_brayns.cluster.shell import LocalShell, Shell
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles
from airflow_brayns.cluster.waiter import Waiter
from tests.support.shell import ShellThrough

pytestmark = pytest.mark.slow

NAME = "ab-0123456789ab000"
PATTERN = (r"s/^listening on \([0-9][0-9]*\)$/\1/p",)
SERVER = f"""exec {sys.executable} -c '
import os, socket, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(os.environ["AB_PORT"])))
listener.listen()
print("listening on", listener.getsockname()[1], flush=True)
time.sleep(600)
'"""


def shell_of(folder: Path, command: Sequence[str]) -> ShellThrough:
    """Runs everything, the keepers included, by one given shell."""
    path = folder / "bin"
    path.mkdir()
    starter = path / "sh"
    starter.write_text(f'#!/bin/bash\nexec {" ".join(command)} "$@"\n')
    starter.chmod(0o755)
    return ShellThrough(command, before=f"PATH={path}:$PATH")


class LimitedCluster(LocalCluster):
    """Submits with limits of its own."""

    limits = KeeperSettings()

    async def submit(self, *arguments, **keywords):
        return await super().submit(*arguments, keeper=self.limits, **keywords)


SHELLS = {"dash": ["/bin/dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> ShellThrough:
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    return shell_of(tmp_path, command)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., LocalCluster]]:
    made = []

    def build(shell: Shell | None = None, **limits: int) -> LocalCluster:
        cluster = LimitedCluster(shell or LocalShell(), state_dir=str(tmp_path / "state"))
        cluster.limits = KeeperSettings(**limits)
        made.append(cluster)
        return cluster

    yield build
    for cluster in made:
        await cluster.release(NAME, grace=1)


def service(script: str = SERVER, index: int = 1, port: str = "0") -> ServiceCommand:
    return ServiceCommand(f"s{index}", index, script, port, PATTERN)


async def until(
    cluster: LocalCluster, holds: Callable[[AllocationStatus], bool], seconds: float = 15
) -> AllocationStatus:
    end = time.monotonic() + seconds
    while True:
        [status] = (await cluster.look([Waiter(NAME, cluster_n(cluster))])).values()
        if holds(status):
            return status
        assert time.monotonic() < end, status
        await asyncio.sleep(0.1)


def cluster_n(cluster: LocalCluster) -> int:
    return max(int(path.name) for path in (Path(cluster.state_dir) / NAME).iterdir() if path.name.isdigit())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def pid_of(cluster: LocalCluster, name: str = "s1") -> int:
    return int((Path(cluster.state_dir) / NAME / str(cluster_n(cluster)) / "services" / name / "pid").read_text())


async def test_from_submission_to_release_in_every_shell(
    shell: ShellThrough, make: Callable[..., LocalCluster]
) -> None:
    cluster = make(shell)
    request = AllocationRequest(nodes=2)
    allocation = await cluster.submit(NAME, "me", request, [service(index=1), service(index=2)], "a test")
    status = await until(cluster, lambda s: all(one.port for one in s.services))
    assert status.nodes == ("slot1", "slot2")
    ports = [one.port for one in status.services]
    assert len(set(ports)) == 2
    for port in ports:
        socket.create_connection(("127.0.0.1", port), 2).close()
    pids = [pid_of(cluster, "s1"), pid_of(cluster, "s2")]
    began = time.monotonic()
    await cluster.release(NAME)
    assert time.monotonic() - began < 6
    assert not any(alive(pid) for pid in [*pids, int(allocation.job_id)])
    assert await cluster.release(NAME), "releasing twice is success"


async def test_a_second_submission_adopts_the_first(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    first = await cluster.submit(NAME, "try-1", AllocationRequest(), [service()])
    again = await cluster.submit(NAME, "try-1", AllocationRequest(), [service()])
    assert again.job_id == first.job_id, "the same try, whose worker was lost"
    second = await cluster.submit(NAME, "try-2", AllocationRequest(), [service()])
    assert (second.key, second.job_id, second.adopted) == (first.key, first.job_id, True)
    assert not await cluster.cancel(NAME, "try-1"), "who lost it must not end it"
    assert alive(int(first.job_id))
    assert await cluster.cancel(NAME, "try-2")
    await until(cluster, lambda s: s.ended is not None)


async def test_many_at_once_submit_once(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    found = await asyncio.gather(*(cluster.submit(NAME, f"try-{n}", AllocationRequest(), []) for n in range(8)))
    assert len({allocation.job_id for allocation in found}) == 1
    assert sum(not allocation.adopted for allocation in found) == 1


async def test_what_was_released_is_never_adopted(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    first = await cluster.submit(NAME, "a", AllocationRequest(), [])
    await cluster.release(NAME)
    second = await cluster.submit(NAME, "a", AllocationRequest(), [])
    assert second.incarnation == first.incarnation + 1


async def test_the_next_one_begins_when_the_one_before_has_ended(make: Callable[..., LocalCluster]) -> None:
    """Given back, and asked for again while its service still takes its time: never two at once."""
    cluster = make()
    first = await cluster.submit(NAME, "a", AllocationRequest(), [service(script=f"trap '' TERM\n{SERVER}")])
    await until(cluster, lambda s: all(one.port for one in s.services))
    (Path(first.folder) / "release").write_text("now\n")
    second = await cluster.submit(NAME, "b", AllocationRequest(), [service()])
    assert not alive(int(first.job_id))
    assert second.incarnation == 2
    await until(cluster, lambda s: all(one.port for one in s.services))


async def test_nobody_uses_it_and_it_ends_by_itself(make: Callable[..., LocalCluster]) -> None:
    cluster = make(idle_limit=1)
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    await asyncio.to_thread(wait_for_death, int(allocation.job_id), 20)
    ended = (Path(cluster.state_dir) / NAME / "1" / "ended").read_text()
    assert "not used for 1 s" in ended
    assert not alive(pid_of(cluster))


def wait_for_death(pid: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < end, f"{pid} still lives"
        time.sleep(0.1)


async def test_a_service_that_ends_is_reported_with_its_code(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service("echo oh no; exit 3")])
    status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert status.services[0].exit_code == 3


async def test_the_keepers_death_ends_the_services(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    await until(cluster, lambda s: s.services[0].port is not None)
    os.kill(int(allocation.job_id), signal.SIGKILL)
    await asyncio.to_thread(wait_for_death, pid_of(cluster), 10)


async def test_a_wrapper_that_is_killed_while_it_stops_its_service_leaves_it_stopped(
    make: Callable[..., LocalCluster],
) -> None:
    """A service that hung was blamed for its end by the keeper, and `start_timeout` was not told (`make faults`, service_hung)."""
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    await until(cluster, lambda s: s.services[0].port is not None)
    pid = pid_of(cluster)
    wrapper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(wrapper, signal.SIGSTOP)  # it has no time to say so itself
    (Path(cluster.state_dir) / NAME / "1" / "services" / "s1" / "stop").write_text("now\n")
    os.kill(wrapper, signal.SIGKILL)
    status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert status.services[0].stopped
    await asyncio.to_thread(wait_for_death, pid, 10)


async def test_a_killed_wrapper_leaves_no_service_behind(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    await until(cluster, lambda s: s.services[0].port is not None)
    pid = pid_of(cluster)
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert "wrapper" in status.services[0].exit_text
    await asyncio.to_thread(wait_for_death, pid, 10)


async def test_a_start_that_takes_too_long_ends_in_the_keeper(make: Callable[..., LocalCluster]) -> None:
    cluster = make(start_timeout=1)
    await cluster.submit(NAME, "a", AllocationRequest(), [service("exec sleep 600")])
    status = await until(cluster, lambda s: s.ended is not None)
    assert "start_timeout" in (status.ended or "")


async def test_what_is_left_of_a_deleted_folders_job_says_nothing_in_the_one_that_is_made_anew(
    make: Callable[..., LocalCluster], tmp_path: Path, shell: ShellThrough
) -> None:
    """A service that takes its time to end was told of as the next one's end, which a retry then waited for in vain."""
    cluster = make(shell)
    stubborn = f"trap '' TERM\n{SERVER.removeprefix('exec ')} &\nwait; wait"
    await cluster.submit(NAME, "me", AllocationRequest(), [service(stubborn)], "a test")
    await until(cluster, lambda status: status.services[0].port is not None)
    former = pid_of(cluster)
    shutil.rmtree(tmp_path / "state" / NAME)
    await cluster.submit(NAME, "me", AllocationRequest(), [service(stubborn)], "a test")
    await until(cluster, lambda status: status.services[0].port is not None)
    wait_for_death(former, 40)
    status = await until(cluster, lambda status: status.services[0].port is not None)
    assert (status.services[0].exit_code, status.ending, status.ended) == (None, "", None)
    assert alive(pid_of(cluster))


async def test_a_service_can_be_added_and_stopped(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [])
    await until(cluster, lambda s: bool(s.nodes))
    await cluster.add_service(allocation, service())
    await until(cluster, lambda s: bool(s.services) and s.services[0].port is not None)
    pid = pid_of(cluster)
    await cluster.stop_service(allocation, "s1")
    assert not alive(pid)
    await cluster.stop_service(allocation, "s1")
    assert alive(int(allocation.job_id))


async def test_a_setup_that_fails_is_told_apart(make: Callable[..., LocalCluster]) -> None:
    from airflow_brayns.brayns.command import ServiceSpec

    script = ServiceSpec(setup="module() { echo no module $2; return 1; }\nmodule load nothing", generation=3).script()
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script)])
    status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert status.services[0].exit_code == 97


@pytest.mark.parametrize("command", SHELLS.values(), ids=SHELLS)
def test_a_command_whose_asker_has_gone_leaves_nothing_in_tmp(command: list[str], tmp_path: Path) -> None:
    """sshd tells a command nothing when its connection ends: it dies of its next word, by SIGPIPE."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    state, scratch = tmp_path / "state", tmp_path / "tmp"
    scratch.mkdir()
    head = f"scheduler=local\nstate_dir={state}\n{script_of('look')}echo ready\nread -r go <{tmp_path}/gate\nlist_all\necho x\necho x\n"
    os.mkfifo(tmp_path / "gate")
    process = subprocess.Popen(
        [*command, "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(scratch)}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(head.encode())
    process.stdin.close()
    assert process.stdout.readline() == b"ready\n"
    assert list(scratch.iterdir())
    process.stdout.close()
    (tmp_path / "gate").write_text("go\n")
    process.wait(10)
    assert not list(scratch.iterdir())


async def test_the_folder_is_private(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [])
    assert (Path(cluster.state_dir) / NAME).stat().st_mode & 0o077 == 0


async def test_a_tls_key_is_private_is_found_by_its_port_and_goes_with_the_allocation(
    make: Callable[..., LocalCluster],
) -> None:
    cluster = make()
    files = TlsFiles("the key", "the certificate")
    allocation = await cluster.submit(NAME, "me", AllocationRequest(), [service()], tls=files)
    status = await until(cluster, lambda s: all(one.port for one in s.services))
    assert status.certificate == "the certificate"
    key = Path(allocation.folder) / "tls" / "key.pem"
    assert (key.read_text(), oct(key.stat().st_mode & 0o777), oct(key.parent.stat().st_mode & 0o777)) == (
        "the key",
        "0o600",
        "0o700",
    )
    assert await cluster.certificate_at("127.0.0.1", status.services[0].port or 0) == (NAME, "the certificate")
    assert await cluster.certificate_at("elsewhere.invalid", status.services[0].port or 0) is None
    again = await cluster.submit(NAME, "try-2", AllocationRequest(), [service()], tls=TlsFiles("another", "another"))
    assert again.adopted
    assert key.read_text() == "the key", "who adopts must take what the running service has"
    await cluster.release(NAME)
    assert not key.exists()


async def test_only_our_own_old_folders_are_cleared_away(make: Callable[..., LocalCluster], tmp_path: Path) -> None:
    old = time.time() - 30 * 86400
    strangers, ours = (
        tmp_path / "state" / "thesis" / "1" / "ended",
        tmp_path / "state" / "ab-00000000000f000" / "1" / "ended",
    )
    for file in (strangers, ours):
        file.parent.mkdir(parents=True)
        file.write_text("x")
        os.utime(file, (old, old))
    await make().submit(NAME, "a", AllocationRequest(), [])
    assert strangers.exists()
    assert not ours.parent.exists()


def test_a_keeper_hears_signals_before_anybody_sends_one() -> None:
    """Who gives back signals whoever has `claim`: one came in between, and ended the keeper before it could say so."""
    keep = file_text("keeper").partition("\nkeep() {")[2]
    assert 0 < keep.index("trap 'told=") < keep.index('mkdir "$dir/claim"')
    assert 0 < keep.index("trap 'woken=yes' USR1") < keep.index('mkdir "$dir/claim"')


async def test_old_folders_are_looked_for_once_an_hour(make: Callable[..., LocalCluster], tmp_path: Path) -> None:
    """A walk through a hundred thousand folders takes seconds: not each submission pays for it."""
    old = time.time() - 30 * 86400
    ended = tmp_path / "state" / "ab-00000000000f000" / "1" / "ended"
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [])
    ended.parent.mkdir(parents=True)
    ended.write_text("x")
    os.utime(ended, (old, old))
    await cluster.submit(NAME, "b", AllocationRequest(), [])
    assert ended.exists(), "looked for a moment ago"
    swept = tmp_path / "state" / ".swept"
    os.utime(swept, (time.time() - 3601, time.time() - 3601))
    await cluster.submit(NAME, "c", AllocationRequest(), [])
    assert not ended.exists()
    assert time.time() - swept.stat().st_mtime < 60


async def test_given_back_while_the_submission_was_under_way(make: Callable[..., LocalCluster]) -> None:
    """A kill that comes before the job is known: its keeper finds `release` and starts nothing."""
    cluster = make()
    submitting = asyncio.create_task(cluster.submit(NAME, "a", AllocationRequest(), [service()]))
    await asyncio.sleep(0.02)
    await cluster.cancel(NAME, "a")
    await submitting
    await cluster.cancel(NAME, "a")
    status = await until(cluster, lambda s: s.ended is not None)
    assert all(one.port is None or one.exit_code is not None for one in status.services)
