"""The real service's faults, as its users meet them."""

from __future__ import annotations

import socket
import sys
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from airflow_brayns.emulator.command_line import UsageError, main, parse
from airflow_brayns.emulator.faults import Faults


def test_command_lines_are_bound_to_their_generation() -> None:
    assert parse(["--http-server", ":5000", "--plugin", "a"], 1).port == 5000
    for line, generation in (
        (["--uri", "h:1"], 1),
        (["--log-level", "info"], 2),
        (["--sandbox-path", "/x"], 3),
        (["x"], 3),
        (["--uri", ":5000"], 3),
        (["--plugin"], 3),
    ):
        with pytest.raises(UsageError):
            parse(line, generation)


def test_unknown_options_of_the_emulator_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown key 'nonsense'"):
        Faults.from_environment({"BRAYNS_EMULATOR": "nonsense=1"})


@pytest.mark.parametrize("library", ["embreex", "h5py", "numpy", "PIL"])
def test_without_a_library_it_ends_before_it_listens_and_says_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SystemExit) as ended:
        main(["--uri", "127.0.0.1:0", "--log-level", "critical"])
    assert ended.value.code == 1
    printed = capfd.readouterr().out
    assert f"lacks {library}" in printed and "pip install 'airflow-brayns[emulator]'" in printed
    assert "Initializing network manager" not in printed


def test_an_unknown_plugin_ends_generation_3_after_its_port_opened(emulator) -> None:
    service = emulator("--plugin", "nope", wait=False)
    assert service.wait(10) == 1
    assert "Error opening dynamic library: libnope.so" in "\n".join(service.lines)


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0"])
def test_earlier_generations_go_on_without_it(emulator, version: str) -> None:
    service = emulator("--plugin", "nope", version=version)
    assert "Error opening dynamic library" in "\n".join(service.lines)
    assert service.exit_code is None


def test_a_port_is_shared_by_two_services_of_one_user(emulator) -> None:
    first = emulator()
    second = emulator(uri=first.endpoint)
    assert second.port == first.port
    assert second.exit_code is None


def test_a_port_of_another_program_is_refused(emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        service = emulator(uri=f"127.0.0.1:{other.getsockname()[1]}", wait=False)
        assert service.wait(10) == 1
    assert "Address already in use" in "\n".join(service.lines)


def test_a_ping_closes_the_connection(emulator) -> None:
    with connect(f"ws://{emulator().endpoint}", ping_interval=None, proxy=None) as client:
        client.ping()
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=5)


def test_idle_connections_take_client_slots(emulator) -> None:
    service = emulator("--max-clients", "2")
    idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
    with pytest.raises(TimeoutError):
        connect(f"ws://{service.endpoint}", open_timeout=0.5, proxy=None)
    for one in idle:
        one.close()
    with connect(f"ws://{service.endpoint}", open_timeout=5, proxy=None):
        pass


def test_signals_kill_it_at_once(emulator) -> None:
    service = emulator()
    began = time.monotonic()
    assert service.end() == -15
    assert time.monotonic() - began < 1


def test_exit_after_its_port_opened(emulator) -> None:
    assert emulator(exit_after_seconds=0.3, exit_code=0).wait(5) == 0
