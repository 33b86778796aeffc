"""The script that starts a service, and the messages that are sent to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.command import ServiceSpec
from airflow_brayns.movie.render_call import OnePass, Snapshot
from airflow_brayns.movie.specification import MovieSpecification
from tests.fuzz.bench import SHELLS, Bench
from tests.fuzz.senders.common import a_plan, a_specification


# ---- the service's script ---------------------------------------------------------------------------------------------
def services(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Environment, plugins, executable and the rest of `ServiceSpec`, to a service that writes down words and variables."""
    folder = bench.scratch()
    parts, made = [], {}
    for number, value in enumerate(values):
        arguments: dict[str, Any] = {"executable": str(bench.service), "generation": rng.choice((1, 2, 3))}
        field = rng.choice(
            ("environment", "environment", "name", "plugins", "executable", "port", "log_level", "certificate_file")
        )
        if field == "name":
            field, arguments["environment"] = "environment", {value: "x"}
        elif field == "environment":
            arguments[field] = {"AB_VALUE": value}
        elif field == "plugins":
            arguments[field] = [value]
        elif field == "certificate_file":
            arguments |= {field: value, "private_key_file": f"$AB_FOLDER/{value}", "generation": rng.choice((2, 3))}
        elif field == "executable":
            arguments[field] = _program(bench, folder, value)
        else:
            arguments[field] = value
        spec = bench.accepted(
            field, lambda arguments=arguments: ServiceSpec(**arguments), "tls_certificate_file", "tls_private_key_file",
            "tls_certificate_file and tls_private_key_file",
        )  # fmt: skip
        if spec is None:
            continue
        made[number] = spec
        parts.append(f"(\nexport AB_NUMBER={number} AB_PORT=5000 AB_FOLDER=/folder\n{spec.script()}\n)")
    bench.run("\n".join(parts), SHELLS[1])
    seen = {int(call.environment.get(b"AB_NUMBER", b"-1")): call for call in bench.calls("service")}
    for number, spec in made.items():
        call = seen.get(number)
        if call is None:
            found = Path(spec.executable).exists() if len(spec.executable) < 200 else False
            bench.tally.check(not found, f"{spec!r:.400} was not started")
            continue
        rest = [word.decode("utf-8", "surrogateescape") for word in call.words[1:]]
        expected = {
            1: ["--http-server", f"{spec.host}:5000", *_plugins(spec)],
            2: ["--uri", f"{spec.host}:5000", "--max-clients", "4", *_plugins(spec)],
            3: ["--uri", f"{spec.host}:5000", "--max-clients", "4", *_plugins(spec), "--log-level", spec.log_level],
        }[spec.generation or 0]
        bench.tally.check(rest == expected, f"{spec!r:.300}: it was started with {rest!r:.300}")
        for name, value in spec.environment.items():
            got = call.environment.get(name.encode())
            bench.tally.check(got == value.encode(), f"environment {name}: {value[:200]!r} arrived as {got!r:.200}")
    return len(values)


def _plugins(spec: ServiceSpec) -> list[str]:
    words = [word for plugin in spec.plugins for word in ("--plugin", plugin)]
    if spec.certificate_file:
        key, certificate = (
            f"/folder/{path.removeprefix('$AB_FOLDER/')}" if path.startswith("$AB_FOLDER/") else path
            for path in (spec.private_key_file, spec.certificate_file)
        )
        words += ["--secure", "true", "--private-key-file", key, "--certificate-file", certificate]
    return words


def _program(bench: Bench, folder: Path, value: str) -> str:
    """A program under a hostile name, where the file system takes it."""
    path = f"{folder}/{value.replace('/', '_')}"
    try:
        Path(path).symlink_to(bench.service)
    except (OSError, ValueError):
        return value
    return path


# ---- JSON-RPC ---------------------------------------------------------------------------------------------------------
class Wire:
    """A socket that keeps what is sent and answers nothing but that a picture's first pass is there."""

    def __init__(self, client: BraynsClient) -> None:
        self.sent: list[str | bytes] = []
        self._client = client

    async def send(self, message: str | bytes) -> None:
        self.sent.append(message)
        content = read_message(message)
        reply = {"jsonrpc": "2.0", "id": content["id"], "result": {"accumulation": 1, "max_accumulation": 1}}
        self._client._receive(json.dumps(reply))


def read_message(message: str | bytes) -> dict[str, Any]:
    """What a service reads: strict JSON in strict UTF-8."""
    if isinstance(message, bytes):
        size = int.from_bytes(message[:4], "little")
        message = message[4 : 4 + size].decode()
    message.encode()

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return dict(json.loads(message, parse_constant=refuse))


def messages(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Paths, names and loaders of a specification, and paths of pictures, as they go to a service."""

    async def main() -> None:
        client = BraynsClient("127.0.0.1:1", timeout=5)
        wire = Wire(client)
        client._socket = wire  # type: ignore[assignment]
        for value in values:
            wire.sent.clear()
            params = {"path": value, "loader_name": value, "loader_properties": {value: [value]}}
            await client.call("add-model", params, binary=rng.choice((b"", b"model")))
            got = read_message(wire.sent[0])
            params = json.loads(json.dumps(params))  # two halves of a character are one
            bench.tally.check(
                got["params"] == params and got["method"] == "add-model", f"{value[:200]!r}: {got!r:.300}"
            )
            spec = bench.accepted(
                "models.0.path", lambda value=value: a_specification(models=[{"path": f"/{value}.obj", "properties": {"a": value}}]),
                "models.0", "models.0.properties",
            )  # fmt: skip
            if spec is None:
                continue
            plan = a_plan(spec)
            bench.tally.check(MovieSpecification.check(spec.plain()) == spec, f"{value[:200]!r}: not read back")
            for way in (Snapshot(), OnePass()):
                wire.sent.clear()
                await way.render(client, plan, 1, value or "x")
                last = read_message(wire.sent[-1])
                got_path = last["params"].get("file_path", value or "x")
                bench.tally.check(got_path == (value or "x"), f"file_path {value[:200]!r}: {got_path[:200]!r}")

    try:
        asyncio.run(main())
    except Exception as error:
        bench.tally.find(f"a message: {type(error).__name__}: {error}")
    return 3 * len(values)
