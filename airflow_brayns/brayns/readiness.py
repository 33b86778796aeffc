"""When a braynsService is usable: TCP, HTTP, WebSocket and every plugin asked for, each rung with its own message."""

from __future__ import annotations

import asyncio
import re
import reprlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.command import (
    EXECUTABLE_MISSING,
    GENERATION_UNKNOWN,
    NO_TLS,
    NOT_PROVED,
    PORT_NOT_OURS,
    SETUP_FAILED,
)
from airflow_brayns.errors import ConnectionLost, InvalidSetting, RpcFailed, ServiceFailed
from airflow_brayns.plain import one_line, plain_text

RUNG_SECONDS = 10.0
_LARGEST = 1 << 20  # bytes that a stranger may answer
_MOST_PLUGINS = 200  # that are handed on; braynsService 3.10.1 has seven
_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class NotYet(Exception):  # noqa: N818
    """A rung that is not there yet; the text says which and why."""

    def __init__(self, message: str) -> None:
        super().__init__(plain_text(message))


@dataclass(frozen=True)
class Usable:
    """A service that has passed every rung.

    :param version: such as `3.10.1`.
    :param plugins: what it has loaded (what it says itself; for generation 1, what was asked for).
    """

    version: str
    plugins: tuple[str, ...]

    @property
    def generation(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    :raises InvalidSetting: for anything else.
    """
    match = _ENDPOINT.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match or not 0 < int(match[2]) < 65536 or not _is_host(match[1]):
        raise InvalidSetting("endpoint", f"{str(text)[:200]!r} is not host:port, such as r1i1n0:5000")
    return match[1].strip("[]"), int(match[2])


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return _HOST.fullmatch(text) is not None
    try:
        return bool(IPv6Address(text[1:-1]))
    except ValueError:
        return False


def missing_plugin(log: str) -> str:
    """The plugin that a log says could not be loaded; empty for none."""
    found = re.search(r"Error opening dynamic library: lib(\S+?)\.so", log)
    return found[1] if found else ""


def why_without_plugin(
    missing: str, plugins: Sequence[str], *, exit_code: int | None = None, generation: int | None = None
) -> str:
    """One sentence for a plugin that could not be loaded.

    :param exit_code: what the service ended with; None where that is not known (yet).
    :param generation: of the service; None where it is not known. Generation 3 ends, 1 and 2 go on without the plugin (facts:
        run for 3.10.1, read for the others).
    """
    if exit_code is not None:
        then = f" and exited with {exit_code}"
    else:
        then = {1: " and goes on without it", 2: " and goes on without it", 3: " and ends"}.get(generation or 0, "")
    return (
        f"plugins: braynsService could not load the plugin '{missing}'{then}. Take it off the "
        f"list ({', '.join(plugins)}), or load a module that has it in the connection's setup."
    )


def why_it_ended(exit_code: int, text: str, log: str, plugins: Sequence[str]) -> str:
    """One sentence for a service that ended before it was usable: what happened, and what to do."""
    if missing := missing_plugin(log):
        return why_without_plugin(missing, plugins, exit_code=exit_code)
    if exit_code == SETUP_FAILED:
        return (
            "setup: the connection's setup failed before braynsService was started; its output is below. Mend it there."
        )
    if exit_code == GENERATION_UNKNOWN:
        return "generation: `--version` did not tell which command line the executable speaks; set generation to 1, 2 or 3."
    if exit_code == NO_TLS:
        return "tls: the braynsService on the node is of generation 1, which has none; set tls to 'off', or load a newer one."
    if exit_code == EXECUTABLE_MISSING:
        return (
            "executable: braynsService, or a library it needs, was not found on the node. Set executable to its path, or "
            "load its module in the connection's setup."
        )
    if exit_code == NOT_PROVED:
        return f"state_dir: {text}."
    if exit_code == PORT_NOT_OURS:
        return f"port: {text}."
    if re.search(r"Address already in use", log):
        return "port: another program listens on the port already; use port 0."
    if re.search(r"Unrecognized option|Unknown keyword argument", log):
        return f"generation: braynsService does not know an option it was given (exit {exit_code}); set generation to what is installed."
    signal = f" (killed by signal {exit_code - 128})" if 128 < exit_code < 160 else ""
    return f"braynsService ended before it was usable: {text or f'exit code {exit_code}'}{signal}."


async def probe(
    host: str,
    port: int,
    plugins: Sequence[str] = (),
    *,
    ssl_context: ssl.SSLContext | None = None,
) -> Usable:
    """Climb from TCP to the plugins once.

    :raises NotYet: a rung that may come; the text names it.
    :raises ServiceFailed: a plugin is missing for good.
    """
    try:
        async with asyncio.timeout(RUNG_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise NotYet(f"TCP: {host}:{port} does not answer ({str(error) or 'no reply in time'})") from None
    writer.close()
    endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with BraynsClient(endpoint, ssl_context=ssl_context, timeout=RUNG_SECONDS, largest=_LARGEST) as client:
            version = _version((await client.call("get-version")).result)
            loaded = await _plugins(client, version, plugins)
    except ConnectionLost as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise ServiceFailed(
                f"tls: whoever answers at {endpoint} is not believed ({error.__cause__.verify_message}): it has another certificate "
                "than the one asked for. Look who listens there; with tls 'given', compare tls_ca and the certificate's names."
            ) from None
        raise NotYet(f"WebSocket: {error}") from None
    except RpcFailed as error:
        raise NotYet(f"JSON-RPC: {error}") from None
    if version >= (3, 3, 0) or version[0] == 1:  # the WebSocket is closed: it may have held the only client slot
        await _http(host, port, "/healthz" if version[0] > 1 else "/version", ssl_context)
    missing = [name for name in plugins if name not in loaded]
    if missing:
        raise ServiceFailed(
            f"plugins: braynsService {'.'.join(map(str, version))} at {endpoint} runs without {', '.join(missing)}; it has "
            f"{', '.join(loaded) or 'none'}. Take the name off the list, or load a module that has the plugin.",
            retry=False,
        )
    return Usable(".".join(map(str, version)), tuple(loaded))


def _version(result: Any) -> tuple[int, int, int]:
    try:
        major, minor, patch = int(result["major"]), int(result["minor"]), int(result["patch"])
        if not all(0 <= part < 10_000 for part in (major, minor, patch)):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise NotYet(f"get-version: the answer {reprlib.repr(result)} is not braynsService's") from None
    return major, minor, patch


async def _plugins(client: BraynsClient, version: tuple[int, int, int], asked: Sequence[str]) -> list[str]:
    """What is loaded, by its own word. Before 3.0 it has none: there only the log tells of a missing plugin."""
    if version < (3, 0, 0):
        return list(asked)
    parameters = (await client.call("get-application-parameters")).result
    if not isinstance(parameters, dict) or not isinstance(parameters.get("plugins"), list):
        raise NotYet(f"get-application-parameters: the answer {reprlib.repr(parameters)} names no plugins")
    return [one_line(str(name), 100) for name in parameters["plugins"][:_MOST_PLUGINS]]


async def _http(host: str, port: int, path: str, ssl_context: ssl.SSLContext | None) -> None:
    try:
        async with asyncio.timeout(RUNG_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=ssl_context)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: a line without an end
        raise NotYet(
            f"HTTP: {path} of {host}:{port} does not answer ({str(error) or 'all client slots may be taken'})"
        ) from None
    if len(status) < 2 or status[1] != b"200":
        raise NotYet(f"HTTP: {path} of {host}:{port} answered {b' '.join(status).decode('latin-1')[:80]!r}")
