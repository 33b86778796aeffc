"""Machines whose clocks are apart, or are set: an age is measured on one clock, or by what changes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.render_lease import RenderLease, confirm_leases, take_leases
from airflow_brayns.cluster.scripts import file_text
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand, proofs
from airflow_brayns.errors import Occupied
from tests.unit.cluster.test_suspended import run

NAME = "ab-0123456789ab000"
HOUR = 3600


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's clock that is as many seconds off as the file `apart` says, for `date`; the file system's is its own."""
    (tmp_path / "bin").mkdir()
    date = tmp_path / "bin" / "date"
    date.write_text(
        f'#!/bin/sh\n[ "$*" = +%s ] || exec /bin/date "$@"\necho $(($(/bin/date +%s) + $(cat {tmp_path}/apart)))\n'
    )
    date.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "apart").write_text("0")
    return tmp_path


@pytest.mark.parametrize("off", [-HOUR, 0, HOUR])
@pytest.mark.parametrize(("written", "over"), [(0, False), (120, True)], ids=["somebody waits", "nobody waits"])
def test_a_node_tells_the_age_of_a_lease_by_the_file_systems_clock(
    apart: Path, off: int, written: int, over: bool
) -> None:
    """One ahead by more than `idle_limit` ended the allocation at once; one behind kept one that nobody waited for."""
    folder = apart / "ab-1" / "1"
    (folder / "services").mkdir(parents=True)
    lease = folder / "lease"
    lease.write_text(f"{int(time.time()) - written}\n")
    os.utime(lease, (time.time() - written, time.time() - written))
    (apart / "apart").write_text(str(off))
    script = keeper_script(KeeperSettings(idle_limit=60), scheduler="local", nodes=("slot1",))
    (folder / "keeper.sh").write_text(script)
    keeper = subprocess.Popen(["sh", folder / "keeper.sh", folder], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 20
        while not (folder / "ended").exists() and not (folder / "heartbeat").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (folder / "heartbeat").exists() is not over
        assert ("nobody has waited" in (folder / "ended").read_text()) if over else not (folder / "ended").exists()
    finally:
        (folder / "release").touch()
        assert keeper.wait(20) == 0


@pytest.mark.parametrize("step", [-HOUR, -30, HOUR])
def test_a_clock_that_is_set_makes_no_use_and_no_idleness(tmp_path: Path, step: int) -> None:
    """Set back by an hour, an allocation that nobody used stayed for an hour more."""
    passed = run(tmp_path, steps=[10, step])
    assert (tmp_path / "ab-1/1/ended").read_text() == "not used for 60 s (idle_limit)\n"
    assert 60 <= passed - step <= 60 + 40


def test_a_wrappers_clock_that_is_set_back_is_no_sign_of_its_keeper(tmp_path: Path) -> None:
    folder = tmp_path / "ab-1" / "1" / "services" / "s1"
    folder.mkdir(parents=True)
    one = ServiceCommand("s1", 1, "exec sleep 600", "0", ())
    assert proofs([one])
    for name, text in (("index", "1\n"), ("port", "0\n"), ("port.sed", ""), ("command", "exec sleep 600\n"), ("node", "slot1\n")):  # fmt: skip
        (folder / name).write_text(text)
    (tmp_path / "ab-1/1/claim").mkdir()  # its keeper's
    (tmp_path / "ab-1/1/heartbeat").write_text("7\n")
    passed = run(tmp_path, "wrap", "s1", "1", steps=[10, -HOUR])
    assert (folder / "exit").read_text() == "1 no sign of the keeper for 100 s\n"
    assert 100 <= passed + HOUR <= 100 + 60


@pytest.mark.parametrize("off", [-HOUR, HOUR])
async def test_login_nodes_that_are_apart_agree_on_who_renders(apart: Path, off: int) -> None:
    """A negative age was taken for 'no driver', an hour's for one that is gone."""
    cluster, lease = LocalCluster(LocalShell(), state_dir=str(apart / "state")), RenderLease(NAME, "1")
    (apart / "state" / NAME / "1").mkdir(parents=True)
    assert await take_leases(cluster, [lease], "one", "movie") == {lease: -1}
    (apart / "apart").write_text(str(off))
    with pytest.raises(Occupied) as raised:
        await take_leases(cluster, [lease], "another", "another movie")
    assert raised.value.heard < 15
    [heard] = (await take_leases(cluster, [lease], "two", "movie")).values()
    assert 0 <= heard < 15
    assert await confirm_leases(cluster, [lease], "one", "movie") == {lease: False}


@pytest.mark.parametrize(("old", "age"), [(0, range(0, 10)), (100, range(100, 110)), (-500, range(0, 1))])
def test_an_age_is_never_negative(tmp_path: Path, old: int, age: range) -> None:
    file = tmp_path / "file"
    file.touch()
    os.utime(file, (time.time() - old, time.time() - old))
    told = subprocess.run(
        ["sh", "-c", f"{file_text('common')}\nage_of {file}"], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) in age
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_not_there_has_no_age(tmp_path: Path) -> None:
    told = subprocess.run(
        ["sh", "-c", f"{file_text('common')}\nage_of {tmp_path}/none"], capture_output=True, check=False
    )
    assert told.returncode == 1
