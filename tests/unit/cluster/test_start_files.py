"""Start files of an account that are written for people: on the node they may end the shell, or put another one in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Framed
from airflow_brayns.errors import ConnectionLost
from tests.unit.cluster.test_keeper import NAME, SERVER, make, service, until

__all__ = ["make"]
PROFILES = {
    "another shell": "exec sh",
    "another shell that is not there": "exec /usr/bin/fish-that-is-not-there",
    "an end": "exit",
    "an end that failed": "exit 3",
    "output": "echo Welcome; printf 'listening on 17' >&2",
    "a terminal": "stty sane; tput clear; read -r answer",
    "errors count": "set -e",
    "what is not set counts": "set -u; set -o pipefail",
    "a trap": "trap 'echo bye; kill -9 $$' EXIT",
    "a trap that ends it": "trap 'exit 9' ERR DEBUG; false",
    "a broken line": "if then",
    "errors that end it": "set -e; false",
    "an agent, and then another shell": "setsid -f sleep 30; exec sh",
    "a log of its own": "exec >>~/login.log 2>&1",
    "nobody to hear it": "exec >&- 2>&- <&- 9>/dev/null",
    "words that end at colons": "IFS=:",
}
ENDED = (
    "another shell", "another shell that is not there", "an end", "an end that failed", "a trap that ends it", "errors that end it",
    "an agent, and then another shell",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", PROFILES)
async def test_a_service_starts_whatever_the_start_files_do(
    make: Callable[..., LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """'exec fish': the service had ended with exit code 0, and logged nothing."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bash_profile").write_text(f"{PROFILES[what]}\n")
    monkeypatch.setenv("HOME", str(home))
    cluster = make()
    script = f'false\none=a:b; set -- $one; [ $# -eq 1 ] || exit 8\n[ -n "${{NOT_SET-}}" ] || {SERVER}'
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script)])
    status = await until(cluster, lambda s: s.services[0].port is not None or s.services[0].exit_code is not None, 30)
    assert status.services[0].port, status.services[0].exit_text
    log = (Path(cluster.state_dir) / NAME / "1" / "services" / "s1" / "log").read_text()
    ended = what in ENDED
    assert ("they may do so only for people" in log) is ended


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["setsid -f sleep 30", 'rm() { command mv -- "$@" ~/trash; }', "PATH=~/bin"])
async def test_a_service_that_ends_by_itself_is_not_started_a_second_time(
    make: Callable[..., LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """Nor does an agent of the start files go on for it. With an `rm` that throws nothing away it was."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bash_profile").write_text(f"{profile}\n")
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(f"echo once >>{tmp_path}/ran; exit 0")])
    status = await until(cluster, lambda s: s.services[0].exit_code is not None, 30)
    assert (status.services[0].exit_code, (tmp_path / "ran").read_text()) == (0, "once\n")


@pytest.mark.parametrize(("output", "told"), [(b"", True), (b"Welcome\n", True), (b"\n{begin}\nhalf", False)])
def test_a_login_that_begins_nothing_says_what_may_be_the_cause(output: bytes, told: bool) -> None:
    framed = Framed("echo done")
    begin = framed.text.split("\n")[0].rpartition(" ")[2].encode()
    with pytest.raises(ConnectionLost, match="cut off before its end") as raised:
        framed.read(output.replace(b"{begin}", begin), b"")
    assert ("only for people, where $- has an i" in str(raised.value)) is told
