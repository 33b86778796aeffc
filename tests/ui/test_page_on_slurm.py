"""A person's way through the page with Slurm behind it: queued, starting, ready, the log, the warning, more time, released; and the
API server killed in the middle. The pictures go to `build/ui`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow import BIN
from tests.support.cluster import USER, TestCluster
from tests.ui.browser import picture
from tests.ui.people import VERSION, Known, run_elsewhere, seen_by


@pytest.fixture(scope="module")
def airflow(slurm: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """Its parts are processes of their own, one of which is killed; the connection is the one that the page's form begins with."""
    found = slurm.environment(poll_interval=2)
    found["AIRFLOW_CONN_BRAYNS_DEFAULT"] = found.pop("AIRFLOW_CONN_TEST_CLUSTER")
    one = Known(tmp_path_factory.mktemp("airflow"), **found)
    try:
        one.start_apart()
        one.begin("brayns_session")
        yield one
    finally:
        one.stop()


@contextmanager
def running(command: str, environment: dict[str, str]) -> Iterator[str]:
    """A command as a person runs it beside other things, until the block ends; the first line that it prints."""
    program, *words = shlex.split(command)
    # What a shell starts with `&` ignores SIGINT, and so would all that the tests start there.
    heeds = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    began = subprocess.Popen(
        [BIN / program, *words], env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=heeds
    )
    try:
        assert began.stdout is not None
        yield began.stdout.readline().strip()
    finally:
        began.send_signal(signal.SIGINT)
        began.wait(60)


def of_a_person(airflow: Known, slurm: TestCluster, home: Path) -> dict[str, str]:
    """The environment of somebody's own machine: an ssh that knows the login node, a token, and no connection."""
    keys = slurm.folder / "keys"
    (home / "config").write_text(
        f"Host 127.0.0.1\n  User {USER}\n  Port 2222\n  IdentityFile {keys / 'user'}\n  UserKnownHostsFile {keys / 'known_hosts'}\n"
    )
    (home / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home / "config"} -o BatchMode=yes "$@"\n')
    (home / "ssh").chmod(0o755)
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    there = {"AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW_CLI_TOKEN": airflow.token("user")}
    return {**theirs, **there, "PATH": f"{home}:{os.environ['PATH']}"}


def test_a_session_on_slurm_from_the_queue_to_its_release(
    browser: Any, airflow: Known, slurm: TestCluster, tmp_path: Path
) -> None:
    blocker = slurm.ssh("sbatch --parsable -A proj3 -p prod -N4 --exclusive --wrap 'sleep 3600'").strip()
    slurm.until(lambda: any(f"{blocker} RUNNING" in line for line in slurm.queue()))
    # Nine minutes from then on, and two to spare, are more than the job has.
    with seen_by("user", browser, airflow, "plugin/brayns?minutes=9&time_limit=10") as page:
        state = page.locator(".state").first

        def is_now(word: str) -> None:
            page.locator(".state", has_text=word).first.wait_for()
            assert state.inner_text() == word

        assert page.get_by_label("Minutes").input_value() == "9", "a link fills the form in"
        page.get_by_label("braynsCircuitInfo").check()
        page.get_by_role("button", name="Allocate", exact=True).click()
        is_now("Queued")
        page.get_by_text("waits for nodes to come free").or_(page.get_by_text("Other jobs come first")).first.wait_for()
        picture(page, "slurm-queued")
        slurm.ssh(f"scancel {blocker}")
        page.locator(".state", has_text="Starting").or_(page.locator(".state", has_text="Ready")).first.wait_for()
        picture(page, "slurm-starting")
        is_now("Ready")
        page.get_by_text("braynsCircuitExplorer, braynsCircuitInfo").first.wait_for()

        page.get_by_text("Connect", exact=True).click()
        assert page.get_by_label("Tunnel, on your machine", exact=True).inner_text().startswith("ssh ")
        lines = page.get_by_label("Python", exact=True).inner_text()
        command = page.get_by_label("Tunnel, where Airflow is installed", exact=True).inner_text()
        with running(command, airflow.environment) as near:
            assert near.startswith("localhost:")
            assert run_elsewhere(lines.replace("localhost:5000", near)) == VERSION
        theirs = of_a_person(airflow, slurm, tmp_path)
        with running(f"{command} --port 0 --api-url http://127.0.0.1:{airflow.port}", theirs) as near:
            assert near.startswith("localhost:")
            assert run_elsewhere(lines.replace("localhost:5000", near)) == VERSION
        page.get_by_text("Log", exact=True).first.click()
        page.get_by_label("Log of brayns1", exact=False).get_by_text("Brayns").first.wait_for()
        page.get_by_text("This session ends at").wait_for()
        picture(page, "slurm-warned")

        airflow.signal_component("api-server", signal.SIGKILL)
        page.get_by_text("It is tried again by itself").wait_for()
        assert page.locator(".endpoint").is_visible(), "what was heard last stays"
        picture(page, "slurm-stale")
        airflow.start_component("api-server")
        airflow.await_healthy()
        page.get_by_text("It is tried again by itself").wait_for(state="detached")
        is_now("Ready")

        page.get_by_role("button", name="Extend…").click()
        page.get_by_role("button", name="Extend", exact=True).click()
        page.get_by_text("The time limit of its job was not raised").wait_for()
        page.get_by_text("follows on, and is ready").wait_for()
        page.locator(".endpoint").nth(1).wait_for()
        page.locator("span.warn", has_text="what is loaded in it is lost then").wait_for()
        picture(page, "slurm-extended")

        page.get_by_role("button", name="Release…").click()
        page.get_by_role("button", name="Release", exact=True).click()
        page.locator(".state", has_text="Ended").wait_for()
        picture(page, "slurm-released")
        run = airflow.api("GET", "dags/brayns_session/dagRuns")["dag_runs"][0]["dag_run_id"]
        assert airflow.finished("brayns_session", run) == "success"
    slurm.empty(60)
