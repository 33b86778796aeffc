"""Who can reach a service, by each route, and who is believed to be one: from other machines and other accounts of the cluster."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import BraynsMovieOperator, BraynsServiceOperator, ReleaseNodesOperator, open_endpoint
from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.readiness import probe
from airflow_brayns.brayns.tls import client_context, make_key_pair
from airflow_brayns.errors import ConnectionLost, ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.endpoints import reachable
from tests.support.cluster import REPO, USER, TestCluster
from tests.support.movie import check_whole, records
from tests.support.task import Ti

pytestmark = pytest.mark.slurm
OTHER = "brayns-other"
PLUGIN = "braynsCircuitExplorer"
TALK = r"""
import socket, sys
try:
    one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    print(one.recv(12).decode("latin-1"))
except OSError as error:
    print("refused", error)
"""


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": Ti()}


def service(**arguments: Any) -> BraynsServiceOperator:
    values = {"task_id": "task", "cluster_conn_id": "test_cluster", "plugins": [PLUGIN], "deferrable": False}
    return BraynsServiceOperator(**{**values, **arguments})


@pytest.fixture
def release(context: dict[str, Any]) -> Iterator[None]:
    yield
    ReleaseNodesOperator(task_id="release", cluster_conn_id="test_cluster", allocated_by="task").execute(context)


def reach(slurm: TestCluster, machine: str, account: str, host: str, port: int) -> str:
    """What somebody gets who connects from a machine of the cluster."""
    words = (
        "setpriv",
        f"--reuid={account}",
        f"--regid={account}",
        "--init-groups",
        "/usr/bin/python3",
        "-c",
        TALK,
        host,
        str(port),
    )
    return slurm.run(machine, *words).strip()


def address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def by_environment(monkeypatch: pytest.MonkeyPatch, slurm: TestCluster, **extra: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TEST_CLUSTER", json.dumps(slurm.connection(poll_interval=1, **extra)))


def test_route_node_is_reached_by_us_and_by_nobody_else(
    slurm: TestCluster, context: Any, release: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not from another node, not from the login node, whoever asks; who is on the same node can, as the docs say."""
    by_environment(monkeypatch, slurm, route="node")
    [endpoint] = service().execute(context)
    host, port = address(endpoint)
    another = next(node for node in ("r1i1n2", "r1i1n3") if node != host)
    for machine in (another, "login"):
        for account in (USER, OTHER):
            assert reach(slurm, machine, account, host, port).startswith("refused"), (machine, account)
    assert reach(slurm, host, OTHER, "127.0.0.1", port).startswith("HTTP/1.1 200"), "a shared node's loopback is shared"
    assert "everybody whose job runs on the same node can reach" in capsys.readouterr().out
    with open_endpoint(endpoint, "test_cluster") as near:
        import brayns

        client = brayns.Connector(near).connect()
        assert brayns.get_version(client).release == (3, 10, 1)
        client.disconnect()


def test_the_other_routes_listen_where_the_cluster_can_reach_them_and_say_so(
    slurm: TestCluster, context: Any, release: None, capsys: pytest.CaptureFixture[str]
) -> None:
    [endpoint] = service().execute(context)
    assert reach(slurm, "login", OTHER, *address(endpoint)).startswith("HTTP/1.1 200")
    assert "braynsService has no login: it listens on its node's network" in capsys.readouterr().out


def test_a_node_whose_host_key_is_not_known_is_refused(
    slurm: TestCluster, context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = slurm.folder / "keys" / "known_hosts"
    other = make_host_key(tmp_path)
    (tmp_path / "known").write_text(
        "".join(f"r1i1n{number} {other}\n" for number in range(4)) + known.read_text().splitlines()[0]
    )
    by_environment(monkeypatch, slurm, route="node", node_known_hosts=str(tmp_path / "known"), start_timeout=60)
    with pytest.raises(
        AirflowFailException,
        match=r"(?s)node_known_hosts: .*the\s+host\s+key\s+of\s+node\s+r1i1n\d\s+is\s+not\s+trusted",
    ):
        service().execute(context)
    slurm.empty(15)


def make_host_key(folder: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    return " ".join((folder / "key.pub").read_text().split()[:2])


INSIDE = """
import sys
from pathlib import Path
from tests.support.cluster import TestCluster
from tests.support.task import Ti
from tests.system.test_access import movie
movie(TestCluster(), Path(sys.argv[1]), frames=150).execute({"ti": Ti()})
"""


def test_rendering_through_a_node_is_as_fast_as_direct(
    slurm: TestCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At least 0.9 of the rate. From outside only the login node can be connected to, so `direct` is driven from there."""
    by_environment(monkeypatch, slurm, route="node")
    movie(slurm, tmp_path / "node", frames=150).execute({"ti": Ti()})
    known = tmp_path / "known"
    known.write_text("10.11.0.2 " + (slurm.folder / "keys" / "host.pub").read_text())
    login = {**slurm.login(known_hosts=str(known)), "host": "10.11.0.2", "port": 22}
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER_LOGIN", json.dumps(login))
    by_environment(monkeypatch, slurm, route="direct")
    words = [slurm.folder / "bin" / "in", "login", "env", f"PYTHONPATH={REPO}", sys.executable, "-c", INSIDE]
    subprocess.run([*words, tmp_path / "direct"], check=True, capture_output=True)
    took = {}
    for route in ("direct", "node"):
        check_whole(tmp_path / route / "frames", 150)
        files = [tmp_path / route / "frames" / line["file"] for line in records(tmp_path / route / "frames")]
        times = sorted(file.stat().st_mtime for file in files)
        took[route] = times[-1] - times[10]
    print(took)
    assert took["direct"] / took["node"] >= 0.9, took


def movie(slurm: TestCluster, folder: Path, frames: int = 40, **changes: Any) -> BraynsMovieOperator:
    scene = Path(slurm.scene).parent / "cube.obj"
    scene.write_bytes((REPO / "tests" / "data" / "cube.obj").read_bytes())
    values = {
        "task_id": "task", "cluster_conn_id": "test_cluster", "plugins": [], "output_file": str(folder / "movie.mp4"),
        "frames_dir": str(folder / "frames"), "keep_frames": True, "nodes": 2,
        "specification": {"models": [{"path": str(scene)}], "frames": frames, "resolution": [320, 180]},
        "environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.05"},
    }  # fmt: skip
    return BraynsMovieOperator(**{**values, **changes})


@pytest.mark.parametrize("route", ["ssh", "node"])
def test_tls_with_a_certificate_of_the_allocation(
    slurm: TestCluster, context: Any, release: None, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """Probed, handed on, used by the official client; the key 0600 in a 0700 folder, in no argument list, gone with the nodes."""
    by_environment(monkeypatch, slurm, route=route, tls="allocation")
    operator = service()
    [endpoint] = operator.execute(context)
    [entry] = context["ti"].xcom["services"]
    assert "BEGIN CERTIFICATE" in entry["certificate"]
    assert "PRIVATE KEY" not in json.dumps(context["ti"].xcom)
    with open_endpoint(endpoint, "test_cluster") as near:
        import brayns

        client = brayns.Connector(near).connect()
        assert brayns.get_version(client).release == (3, 10, 1)
        client.disconnect()
    folder = Path(context["ti"].xcom["allocation"]["allocations"][0]["folder"])
    key = folder / "tls" / "key.pem"
    assert slurm.run("login", "stat", "-c", "%a %U", str(key), str(key.parent)).split() == ["600", USER, "700", USER]
    for machine in ("login", entry["node"]):
        assert "PRIVATE KEY" not in slurm.run(machine, "ps", "-wweo", "args")
    # The very same without TLS is turned away, and so is one that trusts another certificate.
    host, port = address(endpoint)
    assert "200" not in reach(slurm, host, USER, "127.0.0.1", port)
    ReleaseNodesOperator(task_id="release", cluster_conn_id="test_cluster", allocated_by="task").execute(context)
    assert not key.exists()


def test_a_movie_over_tls_into_nodes(slurm: TestCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_environment(monkeypatch, slurm, route="node", tls="allocation")
    movie(slurm, tmp_path).execute({"ti": Ti()})
    check_whole(tmp_path / "frames", 40)
    slurm.empty(10)


def test_given_certificates(
    slurm: TestCluster, context: Any, release: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A site's own, for the node's name; another authority is refused."""
    pair = make_key_pair("r1i1n0")
    folder = Path(slurm.scene).parent / "tls"
    slurm.ssh(f"mkdir -p {folder}; chmod 700 {folder}")
    for name, text in (("key.pem", pair.key), ("cert.pem", pair.certificate)):
        (folder / name).write_text(text)
        subprocess.run(["chown", USER, folder / name], check=True)
    given = {
        "tls": "given",
        "tls_certificate_file": str(folder / "cert.pem"),
        "tls_private_key_file": str(folder / "key.pem"),
    }
    by_environment(monkeypatch, slurm, **given, tls_ca=pair.certificate, sbatch_options=["-w", "r1i1n0"])
    [endpoint] = service().execute(context)
    with open_endpoint(endpoint, "test_cluster") as near:
        assert asyncio.run(version_at(near)) == 3
    stranger = make_key_pair("r1i1n0").certificate
    with pytest.raises(ServiceFailed, match="(?s)tls: .*whoever answers at .* is not believed"):
        asyncio.run(probe_at(endpoint, stranger))
    with open_endpoint(endpoint, "test_cluster", tls_ca=stranger) as near, pytest.raises(ConnectionLost):
        asyncio.run(version_at(near))


async def probe_at(endpoint: str, authority: str) -> None:
    hook = BraynsClusterHook("test_cluster", {"tls_ca": authority})
    async with hook.session() as session, reachable(session, [endpoint]) as [near]:
        await probe(near)


async def version_at(endpoint: str, tls: ssl.SSLContext | None = None) -> int:
    async with BraynsClient(endpoint, ssl_context=tls, timeout=5) as client:
        return int((await client.call("get-version")).result["major"])


def test_an_impostor_with_another_certificate_is_refused(tmp_path: Path) -> None:
    """It listens where the service should be and answers as one, with a certificate of the same name that it made itself."""
    ours, theirs = make_key_pair("ab-0123456789ab000"), make_key_pair("ab-0123456789ab000")
    with impostor(tmp_path, theirs.key, theirs.certificate) as port:
        with pytest.raises(ConnectionLost, match="certificate verify failed"):
            asyncio.run(version_at(f"127.0.0.1:{port}", client_context(ours.certificate, "ab-0123456789ab000")))
        assert (
            asyncio.run(version_at(f"127.0.0.1:{port}", client_context(theirs.certificate, "ab-0123456789ab000"))) == 3
        )


@contextmanager
def impostor(folder: Path, key: str, certificate: str) -> Iterator[int]:
    (folder / "key.pem").write_text(key)
    (folder / "cert.pem").write_text(certificate)
    from tests.support.emulators import Emulator

    words = [
        "--secure",
        "true",
        "--private-key-file",
        str(folder / "key.pem"),
        "--certificate-file",
        str(folder / "cert.pem"),
    ]
    one = Emulator(["--uri", "127.0.0.1:0", *words], "", wait=True)
    try:
        yield one.port
    finally:
        one.end()


def test_generation_1_says_that_it_has_no_tls(
    slurm: TestCluster, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_environment(monkeypatch, slurm, tls="allocation", environment={"BRAYNS_EMULATOR": "version=1.1.0"})
    with pytest.raises(AirflowFailException, match="(?s)tls: .*the one on the node is of generation 1"):
        service(plugins=[]).execute(context)
    slurm.empty(15)
