"""What is asked of a cluster: names, steps, files, and one whole way on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from airflow_brayns.brayns.command import ServiceSpec
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.files import identity
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, leave_leases, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import COMMANDS, script_of
from airflow_brayns.cluster.shell import LocalShell, quote
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.errors.plain import visible
from tests.fuzz.bench import Bench, encodable
from tests.fuzz.senders.common import NAME
from tests.support.shell import FakeShell


def names(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Names of allocations and services, tokens: refused before anything is said to the cluster, unless they are names."""

    async def leases(cluster: Cluster, verb: Callable[..., Awaitable[Any]], allocation: Allocation, token: str) -> Any:
        return await verb(cluster, [lease_of(allocation)], token)

    def asks(cluster: Cluster, value: str) -> list[tuple[str, Awaitable[Any]]]:
        one = Allocation(value, 1, "7")
        good = Allocation(NAME, 1, "7")
        service = ServiceCommand(value, 1, "true", "0", ())
        return [
            ("name", cluster.look([Waiter(value, 1)])), ("service", cluster.look([Waiter(NAME, 1, offsets={value: 0})])),
            ("name", cluster.release(value)), ("name", cluster.cancel(value, "owner")), ("token", cluster.cancel(NAME, value)),
            ("name", leases(cluster, take_leases, one, "me")), ("token", leases(cluster, take_leases, good, value)), ("token", leases(cluster, confirm_leases, good, value)),
            ("name", leases(cluster, leave_leases, one, "me")), ("name", cluster.post_mortem(value, 1)), ("name", cluster.add_service(one, service)),
            ("service", cluster.add_service(good, service)), ("service", cluster.stop_service(good, value)),
            ("name", cluster.stop_service(one, "s1")), ("name", cluster.run_step(one, "true", timeout=5)),
            ("name", cluster.submit(value, "owner", AllocationRequest())), ("token", cluster.submit(NAME, value, AllocationRequest())),
            ("service", cluster.submit(NAME, "owner", AllocationRequest(), [service])),
        ]  # fmt: skip

    async def main() -> None:
        for value in values:
            shell = FakeShell()
            for field, asked in asks(SlurmCluster(shell), value):
                before = len(shell.scripts)
                try:
                    await asked
                    plain = (
                        value.isascii()
                        and all(char.isalnum() or char in "-_" for char in value)
                        and 0 < len(value) <= 64
                    )
                    bench.tally.check(plain, f"{field} {value[:200]!r} was taken")
                except InvalidSetting as error:
                    bench.tally.refused += 1
                    bench.tally.check(
                        error.field in (field, "service"), f"{field} was refused as {error.field}: {error}"
                    )
                    bench.tally.check(len(shell.scripts) == before, f"{field}: refused after it was used")
                except BraynsError:
                    pass  # the cluster's empty answer
                except Exception as error:
                    bench.tally.find(f"{field} {value[:100]!r}: {type(error).__name__}: {error}")

    asyncio.run(main())
    return 18 * len(values)


# ---- steps and files --------------------------------------------------------------------------------------------------
def steps(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Job, node and script of `run_step`, to an srun that writes down its words and what it is given to read."""
    shell = FakeShell()
    cluster = SlurmCluster(shell)
    expected = []
    for number, value in enumerate(values):
        job, node, script = rng.choice((("7", "", value), (value, "", f"{number}"), ("7", value, f"{number}")))
        if len(value) > 1000:  # no kernel takes it as a word, but as a script
            job, node, script = "7", "", value
        made = bench.accepted(
            "value",
            lambda job=job, node=node, script=script: asyncio.run(
                cluster.run_step(Allocation(NAME, 1, job), script, timeout=5, node=node)
            )
            or True,
            "node", "job_id", "script",
        )  # fmt: skip
        if made is not None:
            words = [
                "srun",
                "--overlap",
                f"--jobid={job}",
                "-N1",
                "-n1",
                *(["-w", node] if node else []),
                "/bin/sh",
                "-s",
            ]
            expected.append(([word.encode() for word in words], f"echo\n{script}\n".encode()))  # `echo`: see `step.sh`
    _run_all(bench, shell.scripts)
    seen = sorted((call.words, call.given) for call in bench.calls("srun"))
    _compare(bench, "step", sorted(expected), seen)
    return len(values)


def files(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Paths of models, to `stat`."""
    shell = FakeShell()
    cluster = SlurmCluster(shell)
    paths = []
    for value in values:
        if len(value) < 4096 and bench.accepted("value", lambda value=value: quote(value), "path") is not None:
            paths.append(value)
    asyncio.run(identity(cluster, paths))
    _run_all(bench, shell.scripts)
    seen = sorted(call.words[-1] for call in bench.calls("stat"))
    _compare(bench, "path", sorted(path.encode() for path in paths), seen)
    return len(values)


def asks(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Nodes, owners, and jobs of a listing, as the reaper and the way to a certificate hand them back to the cluster."""
    bench.calls("scancel")
    shell = FakeShell()
    cluster = SlurmCluster(shell, state_dir=str(bench.scratch()))
    expected = []
    for value in values:
        if len(value) > 1000:
            continue
        job = Job(value, "RUNNING", "", "", f"x{value}", "", "", None)
        for make in (
            cluster.certificate_at(value, 5000),
            cluster.reap(AllocationStatus(NAME, 1, owner=value)),
            cluster.end_job(job),
        ):
            bench.accepted("value", lambda make=make: asyncio.run(make) or True, "node", "owner", "job_id", "name")
        if value and "\0" not in value and encodable(value):  # without an id nothing is cancelled
            expected.append([b"scancel", f"--name=x{value}".encode(), value.encode()])
    _run_all(bench, shell.scripts)
    _compare(bench, "job", sorted(expected), sorted(call.words for call in bench.calls("scancel")))
    return 3 * len(values)


def _run_all(bench: Bench, scripts: Sequence[str]) -> None:
    """The bodies of several scripts, below one head for each command that they are of."""
    bodies: dict[str, list[str]] = {}
    for script in scripts:
        functions = max((text for text in map(script_of, COMMANDS) if text in script), key=len)
        head, _, body = script.partition(functions)
        bodies.setdefault(head + functions, []).append(body)
    for head, some in bodies.items():
        bench.run("\n".join([head, *some]))


def _compare(bench: Bench, what: str, expected: list[Any], seen: list[Any]) -> None:
    if expected == seen:
        return
    bench.tally.find(f"{what}: {len(seen)} of {len(expected)} arrived")
    for one, other in zip(expected, seen, strict=False):
        if one != other:
            bench.tally.find(f"{what}: {one!r:.300} arrived as {other!r:.300}")
            break


def local_services(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """One whole way on this machine: keeper, wrapper and login shell, with a service that writes down what reached it."""

    async def one(value: str, other: str) -> None:
        cluster = LocalCluster(LocalShell(), state_dir=str(bench.scratch()))
        arguments: dict[str, Any] = {
            "executable": str(bench.service),
            "environment": {"AB_VALUE": value},
            "generation": 3,
        }
        spec = bench.accepted("environment", lambda: ServiceSpec(**arguments))
        if spec is None:
            return
        commands = [ServiceCommand("s1", 1, spec.script(), "0", ())]
        try:
            allocation = await cluster.submit(NAME, "owner", AllocationRequest(), commands, other)
        except InvalidSetting:
            return
        try:
            for _ in range(100):
                status = (await cluster.look([Waiter(*allocation.key)]))[allocation.key]
                service = status.service("s1")
                if service and service.exit_code is not None:
                    break
                await asyncio.sleep(0.1)
            [listed] = await cluster.list_all()
            bench.tally.check(
                listed.about == visible(other).replace("\n", " ").strip(),
                f"about {other[:200]!r}: {listed.about[:200]!r}",
            )
        finally:
            await cluster.release(NAME, grace=1)
        calls = bench.calls("service")
        got = calls[0].environment.get(b"AB_VALUE") if calls else None
        bench.tally.check(got == value.encode(), f"on the node: {value[:200]!r} arrived as {got!r:.200}")
        bench.count_executed()

    for value in values:
        if encodable(value):
            asyncio.run(
                one(value, rng.choice([text for text in values if encodable(text) and "\0" not in text] or [""]))
            )
    return 2 * len(values)
