"""What tests began and could not end, since they were killed, is ended by the next ones; nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import strays
from tests.support.bounds import until

BEGINS = """
import subprocess, sys, time
from pathlib import Path
from tests.support import strays
strays.KEPT = Path(sys.argv[1])
one = subprocess.Popen(["sh", "-c", "sleep 300 & sleep 300; :"], start_new_session=True)
strays.remember(one.pid)
print(one.pid, flush=True)
time.sleep(300)
"""


def members(session: int) -> list[int]:
    found = [int(one.name) for one in Path("/proc").glob("[0-9]*")]
    return [pid for pid in found if strays.session_of(pid) == session and strays.started(pid)]


@pytest.mark.parametrize("leader_dies", [False, True])
def test_only_what_a_killed_run_began_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leader_dies: bool
) -> None:
    monkeypatch.setattr(strays, "KEPT", tmp_path / "kept")
    run = subprocess.Popen([sys.executable, "-c", BEGINS, str(strays.KEPT)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    session = int(run.stdout.readline())
    until(lambda: len(members(session)) >= 3)
    assert strays.end_strays() == [], "the run still lives"
    if leader_dies:
        os.kill(session, signal.SIGKILL)
    run.kill()
    run.wait(60)
    assert strays.end_strays()
    until(lambda: not members(session))
    assert not list(strays.KEPT.iterdir())


def test_a_number_that_was_given_out_again_is_a_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "KEPT", tmp_path)
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        (tmp_path / f"{stranger.pid}.1.{stranger.pid}.1").touch()
        assert strays.end_strays() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(60)
