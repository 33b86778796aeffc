"""The commands and lines that people copy."""

from __future__ import annotations

import shlex

from airflow_brayns.links.texts import Login, connect_lines, tunnel


def test_the_tunnel_leads_where_the_service_listens() -> None:
    login = Login("me", "login.site", 2222)
    assert tunnel("r1i1n0:5001", login) == "ssh -N -L 5000:r1i1n0:5001 me@login.site -p 2222"
    assert tunnel("r1i1n0:5001", Login(None, "login.site", 22)) == "ssh -N -L 5000:r1i1n0:5001 login.site"
    assert shlex.split(tunnel("r1i1n0.x:5001", login, "node")) == [
        "ssh", "-N", "-J", "me@login.site:2222", "-L", "5000:localhost:5001", "me@r1i1n0.x",
    ]  # fmt: skip
    assert "No tunnel" in tunnel("r1i1n0:5001", None)


def test_the_lines_that_connect_are_python() -> None:
    for certificate in (False, True):
        compile(connect_lines("localhost:5000", certificate), "lines", "exec")
    assert "SslClientContext" in connect_lines("localhost:5000", True)
