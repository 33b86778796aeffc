"""The commands and lines that people copy."""

from __future__ import annotations

import shlex

import pytest

from airflow_brayns.links.texts import (
    Login,
    connect_lines,
    jobs,
    log_command,
    service_url,
    tunnel,
    tunnel_to,
    way_through,
)


def test_the_tunnel_leads_where_the_service_listens() -> None:
    login = Login("me", "login.site", 2222)
    assert tunnel("r1i1n0:5001", login) == "ssh -N -L 5000:r1i1n0:5001 me@login.site -p 2222"
    assert tunnel("r1i1n0:5001", Login(None, "login.site", 22)) == "ssh -N -L 5000:r1i1n0:5001 login.site"
    assert shlex.split(tunnel("r1i1n0.x:5001", login, "node")) == [
        "ssh", "-N", "-J", "me@login.site:2222", "-L", "5000:localhost:5001", "me@r1i1n0.x",
    ]  # fmt: skip
    assert "No tunnel" in tunnel("r1i1n0:5001", None)


@pytest.mark.parametrize("login", [Login("me", "login.site", 2222), Login(None, "login.site"), None])
@pytest.mark.parametrize("route", ["ssh", "node"])
@pytest.mark.parametrize(
    ("first", "other"), [("n1:5001", "n2:5002"), ("n1:5001", "n1:5001"), ("n1:5001", "n1:5002"), ("[::1]:5", "[::2]:6")]
)
def test_another_endpoint_has_the_tunnel_that_it_would_have_alone(
    login: Login | None, route: str, first: str, other: str
) -> None:
    alone = tunnel(other, login, route) if login else ""
    assert tunnel_to(other, first, tunnel(first, login, route)) == alone


def test_a_job_of_this_machine_is_a_process() -> None:
    assert jobs(["12 345", "13"], "local") == "Processes 12 13 on the worker\n\nps -f -p 12,13\n"
    assert "squeue -j 7,8" in jobs(["7", "8"])


def test_a_log_is_read_where_it_lies() -> None:
    paths = ["/gpfs/my log", "/gpfs/b"]
    assert log_command(paths, None) == "tail -f '/gpfs/my log'\ntail -f /gpfs/b"
    first, _ = log_command(paths, Login(None, "login.site", 2222)).splitlines()
    words = shlex.split(first)
    assert words[:4] == ["ssh", "login.site", "-p", "2222"]
    assert shlex.split(words[4]) == ["tail", "-f", "/gpfs/my log"]


def test_a_browser_asks_for_health_or_version() -> None:
    assert service_url("n1:5000", 3, secure=False) == "http://n1:5000/healthz"
    assert service_url("n1:5000", 1, secure=True) == "https://n1:5000/version"


def test_the_lines_that_connect_are_python() -> None:
    for certificate in (False, True):
        compile(connect_lines("localhost:5000", certificate), "lines", "exec")
    assert "SslClientContext" in connect_lines("localhost:5000", True)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (tunnel("n1:5001", Login("me", "login.site", 2222)), "ssh -p 2222 -W n1:5001 -- me@login.site"),
        (tunnel("[::1]:5001", Login(None, "login.site")), "ssh -W [::1]:5001 -- login.site"),
        (tunnel("n1.x:5001", Login("me", "login.site", 2222), "node"), "ssh -J me@login.site:2222 -W localhost:5001 -- me@n1.x"),
        (tunnel("n1:5001", None), ""),
        ("", ""),
        ("ssh -N -L 5000:n1:5001 -oProxyCommand=x", ""),
        ("ssh -N -J -oProxyCommand=x -L 5000:n1:5001 login", ""),
        ("ssh -N -L 5000:n1:5001 login -p 22 rm", ""),
        ("ssh -N -L 5000:n1:5001 login\nrm", ""),
        ("ssh -N -J x;touch${IFS}y; -L 5000:localhost:5001 n1", ""),
        ("ssh -N -J $(touch${IFS}y)@x -L 5000:localhost:5001 n1", ""),
        ("ssh -N -L 5000:n1:5001 `touch${IFS}y`@login", ""),
        ("ssh -N -L 5000:n1:5001 me@'%r", ""),
        ("ssh -N -L 5000:n1|x:5001 login", ""),
    ],
)  # fmt: skip
def test_one_connection_goes_where_the_tunnel_leads_and_no_other_word_of_it_is_run(told: str, words: str) -> None:
    assert " ".join(way_through(told)) == words
