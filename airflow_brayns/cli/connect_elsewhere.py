"""`airflow brayns connect --api-url URL`: a person's own machine, which has no connection of the cluster's. Airflow tells where
the service is, and the person's own ssh leads there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cli import near
from airflow_brayns.cli.console import say
from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, InvalidSetting
from airflow_brayns.errors.plain import one_line
from airflow_brayns.links.texts import way_through
from airflow_brayns.services.settings import is_name

TOKEN = "AIRFLOW_CLI_TOKEN"  # as airflowctl calls it
_IS_TOKEN = re.compile(r"[!-~]+")
_SECONDS = 30.0  # for one answer of Airflow's
_OVER = "Connect again where it has been asked for anew: the page Brayns shows it."
_GET_ONE = "get one: POST {url}/auth/token with username and password, or `airflowctl auth login`."


def connect_elsewhere(args: argparse.Namespace) -> None:
    """Print `localhost:PORT`, which leads to a service until somebody ends the command, or the service is over.

    :raises InvalidSetting: Airflow knows no such service, or takes no such token.
    :raises ConnectionLost: Airflow does not answer.
    :raises AllocationLost: the service is over.
    """
    if not is_name(args.name):
        raise InvalidSetting(
            "name", f"{args.name!r} is no allocation's.", remedy="take one that the page Brayns shows."
        )
    asyncio.run(_connect(args))


async def _connect(args: argparse.Namespace) -> None:
    async with _Airflow(args.api_url, os.environ.get(TOKEN, "")) as airflow:
        wanted = _Wanted(args.name, args.service)
        way = _Way(wanted.found(await airflow.state()))
        if way.service.command and shutil.which(way.service.command[0]) is None:
            raise InvalidSetting("ssh", "It is not on the PATH.", remedy="install an SSH client, such as OpenSSH's.")
        await _held(way, wanted, airflow, args)


@dataclass(frozen=True)
class _Service:
    """A service as the page's state tells of it.

    :param command: the words of ssh's command line that lead there; empty where it is reached directly.
    """

    allocation: str
    name: str
    job_id: str
    endpoint: Endpoint
    command: tuple[str, ...]


class _Airflow:
    """An Airflow elsewhere, asked as the person whose token it is.

    :param url: where it is, with its base path.
    :raises InvalidSetting: there is no such URL, or no token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        if not token:
            raise InvalidSetting(TOKEN, "It is not set.", remedy=_GET_ONE.format(url=self._url))
        if not _IS_TOKEN.fullmatch(token):  # httpx would print it, or blame the URL
            told = "It holds what no token does, such as the end of a line."
            raise InvalidSetting(TOKEN, told, remedy=_GET_ONE.format(url=self._url))
        try:
            self._client = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=_SECONDS)
            self._request = self._client.build_request("GET", f"{self._url}/brayns/state")
            if self._request.url.userinfo:  # it would go in place of the token, and be told back
                raise InvalidSetting(
                    "--api-url", "It holds a user name.", remedy=f"leave that out; {TOKEN} says who asks."
                )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidSetting("--api-url", f"{error}.", remedy="write it as http(s)://HOST[:PORT][/PATH].") from None

    async def __aenter__(self) -> _Airflow:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def state(self) -> dict[str, Any]:
        """What the page shows.

        :raises InvalidSetting: the token is not taken, or the page is not there.
        :raises ConnectionLost: no answer came, or none that can be understood.
        """
        try:
            answer = await self._client.send(self._request)
            if answer.is_success and isinstance(told := answer.json(), dict):
                return told
        except httpx.UnsupportedProtocol as error:
            raise InvalidSetting("--api-url", f"{error}", remedy="write it as http(s)://HOST[:PORT][/PATH].") from None
        except (httpx.HTTPError, ValueError) as error:
            raise ConnectionLost(
                f"{self._url} does not answer: {one_line(str(error)) or type(error).__name__}."
            ) from None
        if answer.status_code in (401, 403) or answer.is_redirect:  # to the login
            raise InvalidSetting(
                TOKEN, "Airflow does not take it, or not any more.", remedy=_GET_ONE.format(url=self._url)
            )
        if answer.status_code == 404:
            raise InvalidSetting(
                "--api-url",
                "Airflow has no page Brayns there.",
                remedy="name the address at which Airflow's own pages begin.",
            )
        raise ConnectionLost(f"{self._url} answers with {answer.status_code}.")


class _Wanted:
    """The service that is wanted.

    :param name: its allocation's, or the beginning of it.
    :param service: its own; None for the first, and from then on that.
    """

    def __init__(self, name: str, service: str | None) -> None:
        self._name, self._service = name, service

    def found(self, state: dict[str, Any]) -> _Service:
        """The service, or the last one of those that follow on it.

        :raises AllocationLost: it is over.
        :raises InvalidSetting: it is not there.
        """
        rows = [row for row in _dicts(state.get("services")) if self._is_of(str(row.get("name", "")))]
        found = [one for row in rows for one in _services(row) if self._is_of(one.allocation)]
        for one in reversed(found):
            if one.name == (self._service or found[0].name):
                self._name, self._service = one.allocation, one.name
                return one
        over = [row for row in rows if row.get("state") in ("ended", "failed")]
        if rows and over == rows:
            why = one_line(str(rows[0].get("why") or "it has been given back"))
            raise AllocationLost(f"{self._name} is over: {why}", remedy=_OVER)
        if found:
            names = ", ".join(sorted({one.name for one in found}))
            raise InvalidSetting(
                "--service", f"{self._name} has no {self._service!r} that is usable.", remedy=f"take one of {names}."
            )
        raise InvalidSetting(
            "name", f"no service of {self._name} is usable.", remedy="take one that the page Brayns shows as ready."
        )

    def _is_of(self, name: str) -> bool:
        """Whether a booking, or an allocation of one, is meant."""
        return bool(name) and (name.startswith(self._name) or self._name.startswith(name))


def _dicts(told: Any) -> Iterator[dict[str, Any]]:
    yield from (one for one in (told if isinstance(told, list) else []) if isinstance(one, dict))


def _services(row: dict[str, Any]) -> Iterator[_Service]:
    for one in _dicts(row.get("services")):
        name, tunnel = (str(one.get(key, "")) for key in ("service", "tunnel"))
        with contextlib.suppress(InvalidSetting):  # what is no endpoint leads nowhere
            endpoint = Endpoint.parse(str(one.get("endpoint", "")))
            command = way_through(tunnel)
            if command or not tunnel:
                yield _Service(
                    str(one.get("allocation", "")), name, str(one.get("job_id", "")), endpoint, tuple(command)
                )


class _Way:
    """The way to a service, on which each connection is an ssh of its own: so no connection outlives its login, and each is made
    anew.

    :param service: where it leads at first.
    """

    def __init__(self, service: _Service) -> None:
        self.service = service
        self._open: list[asyncio.subprocess.Process] = []

    async def reach(self) -> Any:
        """Make one connection to the service."""
        service = self.service
        if not service.command:
            return await asyncio.open_connection(service.endpoint.host, service.endpoint.port)
        pipe = asyncio.subprocess.PIPE
        here = {name: value for name, value in os.environ.items() if name != TOKEN}  # ssh may be set to send all
        process = await asyncio.create_subprocess_exec(*service.command, stdin=pipe, stdout=pipe, env=here)
        self._open = [*(one for one in self._open if one.returncode is None), process]
        return process.stdout, _Input(process)

    async def close(self) -> None:
        """End each ssh that is still there."""
        for process in self._open:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class _Input:
    """The standard input of an ssh, which ends with the connection that it is for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._process, self._writer = process, process.stdin
        self.transport = self

    def write(self, block: bytes) -> None:
        self._writer.write(block)

    async def drain(self) -> None:
        await self._writer.drain()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._writer.write_eof()

    def abort(self) -> None:
        """End the ssh."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()


async def _held(way: _Way, wanted: _Wanted, airflow: _Airflow, args: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(way.close)
        await opened.enter_async_context(near.port(way.reach, args.port, args.out))
        say(f"It leads to {way.service.endpoint}. Ctrl-C ends it.")
        trouble: BraynsError | None = None  # what the last look met
        while True:
            await asyncio.sleep(near.LOOK_SECONDS)
            try:
                service = wanted.found(await airflow.state())
            except AllocationLost:
                raise
            except BraynsError as error:  # connections go on, and so does this
                if trouble is None or (trouble.field, type(trouble)) != (error.field, type(error)):
                    say(str(error))
                trouble = error
                continue
            trouble = None
            if service != way.service:
                way.service = service
                say(near.MOVED.format(service.endpoint))
