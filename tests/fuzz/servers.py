"""Clients and probes against servers that nobody should trust."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from airflow_brayns.brayns import readiness
from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable, probe
from airflow_brayns.errors import ConnectionLost, RpcFailed, ServiceFailed
from tests.fuzz import cases
from tests.fuzz.readers.checks import Finding, can_be_kept
from tests.fuzz.strangers import LONGEST, PATIENCE, Stranger
from tests.fuzz.written import written

AT_ONCE = 40
_TICK = 0.05


class Elsewhere:
    """A place that nobody was told of: whoever comes was led there."""

    def __init__(self) -> None:
        self.visits = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


Findings = list[str]


class Starved:
    """How long others kept the processor from this process: what it could not help."""

    seconds = 0.0

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(_TICK)
            self.seconds += max(0.0, time.monotonic() - began - _TICK - (time.process_time() - used))


async def _with_strangers(
    rng: Random, number: int, work: Callable[[Stranger, int], Coroutine[Any, Any, str | None]]
) -> Findings:
    """So many at once, each with a stranger of its own."""
    findings: Findings = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: findings.append(f"left behind: {context.get('exception')!r} {context['message']}")
    )
    elsewhere, starved = Elsewhere(), Starved()
    watching = asyncio.create_task(starved.watch())
    async with await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0) as other:

        async def one(seed: int) -> None:
            stranger = Stranger(Random(seed), elsewhere=other.sockets[0].getsockname()[1])
            server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
            began, starved_before = time.monotonic(), starved.seconds
            try:
                found = await work(stranger, server.sockets[0].getsockname()[1])
            except Exception as error:
                found = f"{type(error).__name__}: {str(error)[:300]}"
            passed = time.monotonic() - began - (starved.seconds - starved_before)
            if passed > LONGEST:
                findings.append(f"seed {seed}: it took {passed:.1f} s")
            if found:
                findings.append(f"seed {seed}: {found}")
            server.close()

        await asyncio.gather(*(one(rng.randrange(1 << 48)) for _ in range(number)))
        watching.cancel()
        if elsewhere.visits:
            findings.append(f"{elsewhere.visits} were led elsewhere")
    for task in asyncio.all_tasks(loop) - {asyncio.current_task()}:  # type: ignore[arg-type]
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return findings


async def _ask(stranger: Stranger, port: int) -> str | None:
    """One client's requests to a stranger."""
    steps: list[Any] = []
    client = BraynsClient(f"127.0.0.1:{port}", timeout=PATIENCE, largest=1 << 20)
    try:
        async with client:
            for _ in range(2):
                honest = stranger.honest
                try:
                    reply = await client.call("ask", {"x": 1}, progress=lambda *step: steps.append(step))
                except RpcFailed as error:
                    if len(str(error)) > 50_000:
                        return f"an error of {len(str(error))} characters"
                    continue
                if "LIE" in str(reply.result) or stranger.honest == honest:
                    return f"{str(reply.result)[:200]!r} was believed"
    except ConnectionLost as error:
        if len(str(error)) > 10_000:
            return f"an error of {len(str(error))} characters"
    bad = [step for step in steps if not (isinstance(step[0], str) and 0 <= step[1] <= 1)]
    return f"progress {bad[0]!r}" if bad else None


async def _probe(stranger: Stranger, port: int) -> str | None:
    """A probe of a stranger."""
    try:
        usable = await probe(Endpoint("127.0.0.1", port), ["braynsDTI"])
    except (NotYet, ServiceFailed) as error:
        return f"an error of {len(str(error))} characters" if len(str(error)) > 300_000 else None
    if usable != Usable("3.10.1", ("braynsDTI",)) or stranger.honest < 2:
        return f"{usable!r:.300} was believed"
    return None


def clients(rng: Random, number: int = AT_ONCE) -> tuple[int, Findings]:
    """`BraynsClient` against strangers."""
    return number, asyncio.run(_with_strangers(rng, number, _ask))


def probes(rng: Random, number: int = AT_ONCE) -> tuple[int, Findings]:
    """`probe`, with its HTTP rung, against strangers."""
    before = readiness.RUNG_SECONDS
    readiness.RUNG_SECONDS = PATIENCE
    try:
        return number, asyncio.run(_with_strangers(rng, number, _probe))
    finally:
        readiness.RUNG_SECONDS = before


def messages(rng: Random, number: int = 300) -> tuple[int, Findings]:
    """`BraynsClient._receive` without a connection: many more of the replies that a stranger could send."""
    findings: Findings = []

    async def main() -> None:
        for _ in range(number):
            client = BraynsClient("127.0.0.1:1")
            pending: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            from airflow_brayns.brayns.client import _Pending

            client._pending[0] = _Pending(pending, "ask", lambda text, share: None)
            good: Any = rng.choice(
                (
                    {"id": 0, "result": {"a": [1, 2]}},
                    {"id": 0, "error": {"code": 1, "message": "m", "data": ["x"]}},
                    {"params": {"id": 0, "operation": "o", "amount": 0.5}},
                )
            )
            text = cases.as_json(rng, cases.damaged(rng, good, 0.2))
            message: str | bytes = text
            if rng.random() < 0.5:
                body = text.encode("utf-8", "surrogatepass")
                message = cases.mutated(rng, struct.pack("<I", len(body)) + body + rng.randbytes(5))
            try:
                client._receive(message)
            except (ValueError, RecursionError):
                pass  # `_read` ends the connection with these
            except Exception as error:
                findings.append(f"{type(error).__name__}: {error} of {message[:200]!r}")
            if not pending.done():
                continue
            error = pending.exception()
            if error is not None and not isinstance(error, RpcFailed):
                findings.append(f"{error!r} of {message[:200]!r}")
            try:
                can_be_kept(pending.result().result if error is None else str(error), "what was received")
            except Finding as finding:
                findings.append(f"{finding} of {message[:200]!r}")

    asyncio.run(main())
    return number, findings


SERVERS: dict[str, Callable[[Random], tuple[int, Findings]]] = {
    "clients": clients,
    "probes": probes,
    "messages": messages,
    "written": written,
}
