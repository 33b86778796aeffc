"""The rungs of readiness: a braynsService is usable when TCP, WebSocket, HTTP and every plugin asked for answer, each
rung with its own message.
"""

from __future__ import annotations

import asyncio
import random
import reprlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_brayns.brayns import command
from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.words import NO_LIBRARY, NO_PLUGIN, PORT_TAKEN, UNKNOWN_OPTION, VERSION
from airflow_brayns.errors import ConnectionLost, RpcFailed, ServiceFailed
from airflow_brayns.errors.plain import Changes, one_line, plain_text

RUNG_SECONDS = 10.0
_SHARE = 1 / 8  # of the time that has passed, which a pause between two attempts may take
_LARGEST = 1 << 20  # bytes of an answer, since whoever listens may be no braynsService
_MOST_PLUGINS = 200  # plugins of one service that are handed on; braynsService 3.10.1 has seven
# For each exit code: the field that is to be mended, what to do, and why; the last is empty where the node's own words
# say it better.
_WHY = {
    command.SETUP_FAILED: ("setup", "mend the connection's setup: its output is below.", "it failed before braynsService was started."),
    command.SETUP_ENDED: ("setup", "mend what its last lines say; leave out `exit` and `exec`, and close what is left open.", "it ended the shell before braynsService was started."),
    command.GENERATION_UNKNOWN: ("generation", "set it to 1, 2 or 3.", "`--version` did not tell which command line the executable speaks."),
    command.NO_TLS: ("tls", "set it to 'off', or load a newer braynsService.", "the one on the node is of generation 1, which has none."),
    command.EXECUTABLE_MISSING: ("executable", "set it to its path on the nodes, or load its module in the connection's setup.", "braynsService, or a library it needs, was not found on the node."),
    command.NOT_PROVED: ("state_dir", "see who may write there; the next try writes it anew.", ""),
    command.PORT_NOT_OURS: ("port", "use port 0, or a range that is free.", ""),
}  # fmt: skip
# Exit codes after which a service would end the next time too: a field must be mended, or its program may not be run
# (126).
_HOPELESS = {*_WHY, 126} - {command.NOT_PROVED}


Result = TypeVar("Result")


class NotYet(Exception):  # noqa: N818
    """A rung of readiness that is not reached yet; the text says which one and why.

    :param answered: whether anything there answered, and be it to refuse; False where TCP had no reply in time.
    """

    def __init__(self, message: str, *, answered: bool = True) -> None:
        super().__init__(plain_text(message))
        self.answered = answered


async def until(
    attempt: Callable[[], Awaitable[Result]],
    *,
    within: float,
    pause: float,
    longest: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """Try something again and again until it raises `NotYet` no more, and return what it gave.

    :param attempt: what is tried; it raises `NotYet` for what may still come.
    :param within: seconds after which the last `NotYet` is raised.
    :param pause: seconds between two attempts.
    :param longest: seconds to which the pauses grow, as an eighth of the time that has passed; None for pauses that stay.
    :param tell: a function that is told why not yet, once per change; None for none.
    :raises NotYet: why the last attempt failed.
    """
    began, reasons = asyncio.get_running_loop().time(), Changes()
    while True:
        try:
            return await attempt()
        except NotYet as reason:
            if tell is not None and reasons.new(str(reason)):
                tell(str(reason))
            passed = asyncio.get_running_loop().time() - began
            if passed > within:
                raise
        await asyncio.sleep(_pause(passed, pause, pause if longest is None else longest))


def _pause(passed: float, least: float, longest: float) -> float:
    """The seconds until the next attempt; thousands that began together do not come together for ever."""
    grown = min(passed * _SHARE, longest)
    return least if grown <= least else grown * random.uniform(0.8, 1)


@dataclass(frozen=True)
class Usable:
    """What a service that has passed every rung told of itself.

    :param version: such as `3.10.1`.
    :param plugins: the plugins that it has loaded by its own word; before 3.0, which has no such word, those asked for.
    """

    version: str
    plugins: tuple[str, ...]

    @property
    def generation(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])


def missing_plugin(log: str) -> str:
    """The name of the plugin that could not be loaded, as a service's log tells it; empty where it tells of none."""
    found = NO_PLUGIN.search(log)
    return found[1] if found else ""


def runs_without(
    missing: str, plugins: Sequence[str], *, generation: int | None, node: str, lines: str
) -> ServiceFailed:
    """The error for a service whose log tells of a plugin that could not be loaded, and not (yet) of its end.

    :param missing: the plugin's name.
    :param plugins: the names of all plugins that were asked for.
    :param generation: the service's; None where it is not known. Generation 3 ends, 1 and 2 go on without the plugin
        (3.10.1 run, the others' source read).
    :param lines: the last lines of its log.
    """
    then = {1: " and goes on without it", 2: " and goes on without it", 3: " and ends"}.get(generation or 0, "")
    remedy, text = _without_plugin(missing, plugins, then)
    return ServiceFailed(f"{text}\n{lines}", remedy=remedy, field="plugins", node=node, retry=False)


def _without_plugin(missing: str, plugins: Sequence[str], then: str) -> tuple[str, str]:
    remedy = f"take it off the list ({', '.join(plugins)}), or load a module that has it in the connection's setup."
    return remedy, f"braynsService could not load the plugin '{missing}'{then}."


def ended_early(
    exit_code: int, text: str, log: str, plugins: Sequence[str], *, node: str = "", lines: str = ""
) -> ServiceFailed:
    """The error for a service that ended before it was usable: what happened, what to do, and whether a retry can help.

    :param text: what its node says of the end.
    :param plugins: the names of all plugins that were asked for.
    :param log: as much of its log as is known; `lines` are the last lines, for people.
    """
    field, remedy, why = _why_it_ended(exit_code, text, log, plugins)
    hopeless = exit_code in _HOPELESS or NO_LIBRARY.search(log) or UNKNOWN_OPTION.search(log)
    told = f"{why}\n{lines}".rstrip()
    return ServiceFailed(told, remedy=remedy, field=field, node=node, exit_code=exit_code, retry=not hopeless)


def _why_it_ended(exit_code: int, text: str, log: str, plugins: Sequence[str]) -> tuple[str, str, str]:
    """The field that is to be mended, empty where none is known; what to do; and a sentence that says why the service ended."""
    if missing := missing_plugin(log):
        return "plugins", *_without_plugin(missing, plugins, f" and exited with {exit_code}")
    if exit_code in _WHY:
        field, remedy, why = _WHY[exit_code]
        return field, remedy, why or f"{text}."
    if PORT_TAKEN.search(log):
        return "port", "use port 0.", "another program listens on the port already."
    if UNKNOWN_OPTION.search(log):
        why = f"braynsService does not know an option it was given (exit {exit_code})."
        return "generation", "set it to what is installed: 1, 2 or 3.", why
    signal = f" (killed by signal {exit_code - 128})" if 128 < exit_code < 160 else ""
    why = f"braynsService ended before it was usable: {text or f'exit code {exit_code}'}{signal}."
    if VERSION.search(log):
        return "", "Mend what its last lines say.", why
    return "", "Look at setup, container and executable first.", f"{why} It said nothing of itself."


async def probe(
    endpoint: Endpoint, plugins: Sequence[str] = (), *, told: str = "", seconds: float | None = None
) -> Usable:
    """Try every rung of readiness once, from TCP to the plugins.

    :param plugins: names of the plugins that must be loaded.
    :param told: `host:port` as people know it, where `endpoint` is a tunnel's; empty for `endpoint` itself.
    :param seconds: how long each rung may take; None for `RUNG_SECONDS`.
    :raises NotYet: a rung is not reached yet; the text names it.
    :raises ServiceFailed: a plugin is missing for good, or the certificate is not the one that is expected.
    """
    told, seconds = told or str(endpoint), RUNG_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise NotYet(
            f"TCP: {told} does not answer ({str(error) or 'no reply in time'})",
            answered=not isinstance(error, TimeoutError),
        ) from None
    writer.close()
    try:
        async with BraynsClient(
            str(endpoint), ssl_context=endpoint.ssl_context, timeout=seconds, largest=_LARGEST, told=told
        ) as client:
            version = _version((await client.call("get-version")).result)
            loaded = await _plugins(client, version, plugins)
    except ConnectionLost as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise ServiceFailed(
                f"whoever answers at {told} is not believed ({error.__cause__.verify_message}): it has another certificate "
                "than the one asked for.",
                remedy="look who listens there; with tls 'given', compare tls_ca and the certificate's names.",
                field="tls",
            ) from None
        raise NotYet(f"WebSocket: {error}") from None
    except RpcFailed as error:
        raise NotYet(f"JSON-RPC: {error}") from None
    if version >= (3, 3, 0) or version[0] == 1:  # the WebSocket is closed: it may have held the only client slot
        await _http(endpoint, "/healthz" if version[0] > 1 else "/version", told, seconds)
    missing = [name for name in plugins if name not in loaded]
    if missing:
        raise ServiceFailed(
            f"braynsService {'.'.join(map(str, version))} at {told} runs without {', '.join(missing)}; it has "
            f"{', '.join(loaded) or 'none'}.",
            remedy="take the name off the list, or load a module that has the plugin.",
            field="plugins",
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
    """The plugins that a service says it has loaded. Before 3.0 it cannot say: there only the log tells of a missing
    plugin.
    """
    if version < (3, 0, 0):
        return list(asked)
    parameters = (await client.call("get-application-parameters")).result
    if not isinstance(parameters, dict) or not isinstance(parameters.get("plugins"), list):
        raise NotYet(f"get-application-parameters: the answer {reprlib.repr(parameters)} names no plugins")
    return [one_line(str(name), 100) for name in parameters["plugins"][:_MOST_PLUGINS]]


async def _http(endpoint: Endpoint, path: str, told: str, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=endpoint.ssl_context)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {endpoint.host}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:  # asyncio raises ValueError for a line without an end
        raise NotYet(
            f"HTTP: {path} of {told} does not answer ({str(error) or 'all client slots may be taken'})"
        ) from None
    if len(status) < 2 or status[1] != b"200":
        raise NotYet(f"HTTP: {path} of {told} answered {b' '.join(status).decode('latin-1')[:80]!r}")
