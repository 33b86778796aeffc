"""`airflow brayns connect --api-url`: the place by what Airflow's page tells, the way by the person's own ssh."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cli.connect_elsewhere import TOKEN
from tests.support.airflow import free_port
from tests.support.bounds import until
from tests.support.command_line import CommandLine, airflow_brayns_command

__all__ = ["airflow_brayns_command"]
NAME = "ab-0123456789ab"
SSH = """#!{python}
import os, pathlib, socket, sys, threading
here = pathlib.Path(__file__).parent
assert "AIRFLOW_CLI_TOKEN" not in os.environ
with open(here / "words", "a") as words:
    print(*sys.argv[1:], file=words)
target = sys.argv[sys.argv.index("-W") + 1]
port = dict(line.split() for line in open(here / "ports"))[target]
far = socket.create_connection(("127.0.0.1", int(port)))
def back():
    while block := far.recv(65536):
        sys.stdout.buffer.write(block); sys.stdout.buffer.flush()
threading.Thread(target=back, daemon=True).start()
while block := sys.stdin.buffer.read1(65536):
    far.sendall(block)
"""


class Elsewhere:
    """An Airflow's page, and what lies behind its login node."""

    def __init__(self, folder: Path) -> None:
        self.state: dict[str, Any] = {"services": []}
        self.code, self.tokens, self._folder = 200, list[str](), folder
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.tokens.append(self.headers.get("Authorization", ""))
                found = self.path == "/air/brayns/state"
                self.send_response(outer.code if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(outer.state).encode() if found else b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/air/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def row(self, *services: dict[str, Any], **more: Any) -> None:
        self.state = {"services": [{"name": NAME, "state": "ready", "services": list(services), **more}]}

    def service(self, said: str, endpoint: str, job_id: str = "7", **more: Any) -> dict[str, Any]:
        """A service behind the login node, which says one thing to whoever connects."""
        listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                with one:
                    one.sendall(said.encode())

        threading.Thread(target=serve, daemon=True).start()
        with (self._folder / "ports").open("a") as ports:
            print(endpoint, listening.getsockname()[1], file=ports)
        return {
            "service": "brayns1",
            "allocation": f"{NAME}000",
            "job_id": job_id,
            "endpoint": endpoint,
            "tunnel": f"ssh -N -L 5000:{endpoint} anna@login -p 2222",
            **more,
        }


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    import sys

    (tmp_path / "ssh").write_text(SSH.format(python=sys.executable))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv(TOKEN, "a-token")
    monkeypatch.setattr("airflow_brayns.cli.near.LOOK_SECONDS", 0.2)
    one = Elsewhere(tmp_path)
    yield one
    one.close()


def heard(port: int) -> str:
    """What the service behind a port says; empty while nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as near:
            return near.recv(100).decode()
    except OSError:
        return ""


def beside(work: Callable[[], None]) -> threading.Thread:
    """Do something beside the command, and end that."""

    def act() -> None:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_the_persons_own_ssh_leads_there_and_on_to_what_follows(
    elsewhere: Elsewhere, tmp_path: Path, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = elsewhere.service("first", "n1:5001")
    elsewhere.row(first)
    port, found, said = free_port(), dict[str, str](), list[str]()
    monkeypatch.setattr("airflow_brayns.cli.connect_elsewhere.say", said.append)

    def use() -> None:
        until(lambda: heard(port), 60)
        found["first"] = heard(port)
        elsewhere.row(first, elsewhere.service("second", "n2:5002", "8", follows=True))
        until(lambda: len(said) > 1, 60)
        found["second"] = heard(port)
        elsewhere.code = 401
        until(lambda: len(said) > 2, 60)
        time.sleep(1)  # in which it is looked at again, and nothing is said twice
        found["without"] = heard(port)

    beside(use)
    ended = airflow_brayns_command("connect", NAME, "--port", str(port), "--api-url", elsewhere.url)
    assert (ended.code, ended.out) == (130, f"localhost:{port}\n")
    assert found == {"first": "first", "second": "second", "without": "second"}
    assert len(said) == 3 and "which follows on" in said[1] and said[2].startswith(TOKEN)
    assert set(elsewhere.tokens) == {"Bearer a-token"}
    words = (tmp_path / "words").read_text().splitlines()
    assert words[0] == "-p 2222 -W n1:5001 -- anna@login" and words[-1].startswith("-p 2222 -W n2:5002")


def test_where_no_tunnel_is_needed_it_leads_there_directly(
    elsewhere: Elsewhere, airflow_brayns_command: CommandLine
) -> None:
    one = elsewhere.service("direct", "n1:5001")
    there = dict(line.split() for line in (elsewhere._folder / "ports").read_text().splitlines())["n1:5001"]
    elsewhere.row({**one, "endpoint": f"127.0.0.1:{there}", "tunnel": ""})
    port, found = free_port(), list[str]()

    def use() -> None:
        until(lambda: heard(port), 60)
        found.append(heard(port))

    beside(use)
    assert airflow_brayns_command("connect", NAME, "--port", str(port), "--api-url", elsewhere.url).code == 130
    assert found == ["direct"]


def test_it_ends_when_the_session_is_over(elsewhere: Elsewhere, airflow_brayns_command: CommandLine) -> None:
    elsewhere.row(elsewhere.service("first", "n1:5001"))
    port = free_port()

    def end() -> None:
        until(lambda: heard(port), 60)
        elsewhere.row(state="ended", why="its time was over\x1b[2J")

    threading.Thread(target=end).start()
    ended = airflow_brayns_command("connect", NAME, "--port", str(port), "--api-url", elsewhere.url)
    assert ended.code == 1 and "is over: its time was over" in ended.err and "\x1b" not in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["not a name"], "is no allocation's"),
        (["ab-ffffffffffff"], "no service of ab-ffffffffffff is usable"),
        ([NAME, "--service", "other"], "take one of brayns1"),
        ([NAME, "--api-url", "{url}elsewhere"], "Airflow has no page Brayns there"),
        ([NAME, "--api-url", "airflow.example"], r"http(s)://HOST"),
        ([NAME, "--api-url", "http://[::1"], r"http(s)://HOST"),
        ([NAME, "--api-url", "http://127.0.0.1:9/"], "does not answer"),
        ([NAME, "--api-url", "http://anna:a-word@127.0.0.1/"], "It holds a user name"),
        ([NAME, "--port", "70000"], "70000 cannot be opened here"),
    ],
)  # fmt: skip
def test_what_cannot_be_connected_to_is_said(
    elsewhere: Elsewhere, airflow_brayns_command: CommandLine, words: list[str], told: str
) -> None:
    elsewhere.row(elsewhere.service("first", "n1:5001"))
    given = ["--api-url", elsewhere.url, *(word.format(url=elsewhere.url) for word in words)]
    said = airflow_brayns_command("connect", *given)
    assert said.code == 1 and not said.out
    assert told in said.err and "Traceback" not in said.err and "a-word" not in said.err


@pytest.mark.parametrize(("code", "told"), [(401, TOKEN), (403, TOKEN), (302, TOKEN), (503, "answers with 503")])
def test_an_airflow_that_does_not_tell_is_named(
    elsewhere: Elsewhere, airflow_brayns_command: CommandLine, code: int, told: str
) -> None:
    elsewhere.code = code
    said = airflow_brayns_command("connect", NAME, "--api-url", elsewhere.url)
    assert said.code == 1 and told in said.err and "a-token" not in said.err


@pytest.mark.parametrize("token", ["a-token\r", "a-token\u2026", "a-token\nx", "a token"])
def test_a_token_that_is_none_is_told_as_that_and_not_shown(
    elsewhere: Elsewhere, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """One from a file of Windows ends with a carriage return: it was printed, as an Airflow that does not answer."""
    monkeypatch.setenv(TOKEN, token)
    said = airflow_brayns_command("connect", NAME, "--api-url", elsewhere.url)
    assert said.code == 1 and f"{TOKEN}: get one" in said.err and "a-token" not in said.err and not elsewhere.tokens


@pytest.mark.parametrize("lacks", ["token", "ssh"])
def test_what_is_missing_here_is_said(
    elsewhere: Elsewhere, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    elsewhere.row(elsewhere.service("first", "n1:5001"))
    if lacks == "token":
        monkeypatch.delenv(TOKEN)
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    said = airflow_brayns_command("connect", NAME, "--api-url", elsewhere.url)
    assert said.code == 1 and (f"{TOKEN}: get one" if lacks == "token" else "ssh: install") in said.err


def test_a_tunnel_that_is_none_of_ours_is_not_run(elsewhere: Elsewhere, airflow_brayns_command: CommandLine) -> None:
    """It is told by an Airflow, and run on a person's machine."""
    elsewhere.row(elsewhere.service("first", "n1:5001", tunnel="ssh -oProxyCommand=touch\\ x -N -L 5000:n1:5001 login"))
    said = airflow_brayns_command("connect", NAME, "--api-url", elsewhere.url)
    assert said.code == 1 and "is usable" in said.err
