"""A service is known by where it listens, however its host is spelled."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.cluster import location
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.location import Host, host_of, is_loopback, known_here, read_hosts, read_listeners, spelled
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster

# What the name service of the login node knows, and Slurm of its nodes; n3 is known to Slurm alone, by its address.
NAMES = {
    "n1": "10.9.1.1 n1.viz.example.org",
    "n1.viz.example.org": "10.9.1.1 n1.viz.example.org",
    "10.9.1.1": "10.9.1.1 10.9.1.1",
    "n2": "fd00::2 n2.viz.example.org",
    "fd00::2": "fd00::2 fd00::2",
    "elsewhere.example.org": "192.0.2.7 elsewhere.example.org",
    "login": "10.9.0.1 login.viz.example.org",
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """A Slurm cluster with a service at port 5000 of n1, n2 and n3, and at 5001 of the login node."""
    tools = tmp_path / "bin"
    tools.mkdir()
    lines = "".join(f"'{name}') set -- {known};;\n" for name, known in NAMES.items())
    script(tools / "getent", f'case $2 in\n{lines}*) exit 2;; esac\nprintf "%s STREAM %s\\n%s DGRAM\\n" "$1" "$2" "$1"')
    node = "Arch=x86_64 CPUAlloc=0 NodeAddr={0} NodeHostName={1} Version=22.05"
    nodes = "\n".join(
        f"NodeName={name} {node.format(address, name)}" for name, address in (("n1", "n1"), ("n3", "10.9.1.3"))
    )
    script(tools / "scontrol", f"cat <<'END'\n{nodes}\nEND")
    script(tools / "uname", "echo login")
    script(tools / "hostname", "case $1 in -I) echo 10.9.0.1;; *) echo login.viz.example.org;; esac")
    monkeypatch.setenv("PATH", str(tools), prepend=":")

    async def nothing(host: str) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(location, "_resolved", nothing)
    for number, (host, port) in enumerate([("n1", 5000), ("n2", 5000), ("n3", 5000), ("login", 5001)], 1):
        folder = tmp_path / "state" / f"ab-0{number}" / "1" / "services" / "brayns1"
        folder.mkdir(parents=True)
        (folder / "listening").write_text(f"{port}\n")
        (folder / "node").write_text(f"{host}\n")
        (folder / "command").write_text(":\n")
        (folder.parents[1] / "tls").mkdir()
        (folder.parents[1] / "tls" / "cert.pem").write_text(f"of {host}")
    return SlurmCluster(LocalShell(), state_dir=str(tmp_path / "state"), node_suffix=".viz.example.org")


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("host", "port", "node"),
    [
        ("n1", 5000, "n1"), ("N1", 5000, "n1"), ("n1.viz.example.org", 5000, "n1"), ("N1.Viz.Example.ORG.", 5000, "n1"),
        ("10.9.1.1", 5000, "n1"), ("::ffff:10.9.1.1", 5000, "n1"),
        ("n2", 5000, "n2"), ("fd00::2", 5000, "n2"), ("[FD00:0:0:0:0:0:0:2]", 5000, "n2"),
        ("n3", 5000, "n3"), ("10.9.1.3", 5000, "n3"),
        ("localhost", 5001, "login"), ("127.0.0.1", 5001, "login"), ("::1", 5001, "login"), ("10.9.0.1", 5001, "login"),
        ("localhost", 5000, None), ("elsewhere.example.org", 5000, None), ("n1", 5001, None), ("n4", 5000, None),
    ],
)  # fmt: skip
async def test_all_names_of_a_node_are_the_same_service(
    cluster: SlurmCluster, host: str, port: int, node: str | None
) -> None:
    found = await cluster.service_at(host, port, direct=False)
    assert (found.service.node if found else None) == node
    certificate = await cluster.certificate_at(host, port, direct=False)
    assert (certificate[1] if certificate else None) == (f"of {node}" if node else None)


async def test_a_node_that_only_this_machine_can_name_is_known_by_its_address(
    cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`route: direct`: the name that somebody typed is one of his own network."""

    async def resolved(host: str) -> frozenset[str]:
        return frozenset({"10.9.1.1"} if host == "cave" else {})

    monkeypatch.setattr(location, "_resolved", resolved)
    found = await cluster.service_at("cave", 5000)
    assert found is not None
    assert found.service.node == "n1"


async def test_this_machines_loopback_is_not_the_login_nodes(cluster: SlurmCluster) -> None:
    assert await cluster.service_at("localhost", 5001, direct=True) is None


async def test_a_name_service_that_is_not_there_leaves_the_names(cluster: SlurmCluster, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "getent", "exit 127")
    script(tmp_path / "bin" / "scontrol", "exit 1")
    assert (await cluster.service_at("N1.viz.example.org", 5000, direct=False)) is not None
    assert (await cluster.service_at("10.9.1.1", 5000, direct=False)) is None


async def test_every_name_of_this_machine_is_its_local_cluster() -> None:
    cluster = LocalCluster(LocalShell())
    for host in ("localhost", "LOCALHOST.", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "0.0.0.0", "::ffff:127.0.0.1"):
        assert cluster.is_called("slot1", host), host
    own, nodes = await cluster.hosts(socket.gethostname().upper(), ["slot1"], direct=True)
    assert own.is_same(nodes["slot1"])
    for host in ("192.0.2.1", "viz.example.invalid"):
        other, nodes = await cluster.hosts(host, ["slot1"], direct=True)
        assert not cluster.is_called("slot1", host)
        assert not other.is_same(nodes["slot1"]), host


async def test_another_machine_is_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(host: str) -> frozenset[str]:
        return frozenset({"192.0.2.7"})

    monkeypatch.setattr(location, "_resolved", resolved)
    assert await known_here("viz.example.org") == Host(frozenset({"viz.example.org"}), frozenset({"192.0.2.7"}))


def test_two_machines_loopbacks_are_two() -> None:
    one, other = host_of(["localhost"], "a", frozenset()), host_of(["127.0.0.1"], "b", frozenset())
    assert not one.is_same(other)
    assert one.is_same(host_of(["10.0.0.1"], "a", frozenset({"10.0.0.1"})))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "host",
        "host ",
        "host .",
        "at ab-1 1 s1 lives n1 n2",
        "at ab-1 x s1 lives n1",
        "at ../x 1 s1 lives n1",
        "\ud800",
    ],
)
def test_what_is_no_answer_is_passed_over(answer: str) -> None:
    assert read_hosts(answer) == {}
    assert read_listeners(answer) == []


def test_one_spelling() -> None:
    assert spelled("[FD00:0::2]") == "fd00::2"
    assert spelled(" N1.Example.ORG. ") == "n1.example.org"
    assert not is_loopback("localhost.example.org")


def test_the_nodes_that_are_asked_for_are_of_services_that_live_else_of_all_each_once() -> None:
    """At most so many, the latest."""
    told = read_listeners("at ab-1 1 s1 over n1\nat ab-2 1 s1 lives n2\nat ab-3 1 s1 lives n2\nat ab-4 1 s1 lives n3\n")
    assert location.nodes_of(told) == ["n2", "n3"]
    assert location.nodes_of([one for one in told if not one.lives]) == ["n1"]
    many = [replace(told[1], node=f"n{number}") for number in range(100)]
    assert location.nodes_of(many) == [f"n{number}" for number in range(64)]


def test_the_latest_that_lives_is_the_best_else_the_latest() -> None:
    over, lives = read_listeners("at ab-1 1 s1 over n1\nat ab-2 1 s1 lives n2\n")
    assert location.best([over, lives]) is lives
    assert location.best([over]) is over
    assert location.best([]) is None
