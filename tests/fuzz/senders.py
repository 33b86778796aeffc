"""Every field that reaches a shell, a path, an sbatch option, a JSON-RPC message or a template, with hostile values in it.

Each sender puts a pool of values through the real code and the real shell, and checks that each arrived byte for byte or was
refused by an error that names its field. What is executed on the way, the bench notices.
"""

from __future__ import annotations

import asyncio
import base64
import getopt
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns import cluster_store
from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.command import ServiceSpec
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job
from airflow_brayns.cluster.cluster import Cluster, LocalCluster, SlurmCluster, Waiter
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script, shell_text
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Framed, LocalShell, quote
from airflow_brayns.cluster.submission import ServiceCommand, comment, fill, proofs, sbatch_line, submission
from airflow_brayns.cluster_encode import Sources, encode_script
from airflow_brayns.cluster_store import ClusterStore, check_folder
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.movie.encode import Encoding
from airflow_brayns.movie.manifest import Header
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import Made
from airflow_brayns.movie.way import OnePass, Snapshot
from airflow_brayns.plain import visible
from tests.fuzz.bench import SHELLS, Bench, encodable

NAME = "ab-0123456789ab000"
Sender = Callable[[Bench, Random, Sequence[str]], int]


class Quoting:
    """How values are quoted, so that the self-test can take the quotes away."""

    quote = staticmethod(quote)


# ---- words of a shell -------------------------------------------------------------------------------------------------
def words(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """`quote`, hundreds in one script."""
    quoted = []
    for value in values:
        word = bench.accepted("value", lambda value=value: Quoting.quote(value))
        if word is not None:
            quoted.append((value, word))
    script = "\n".join(f"printf '%s\\0' {word}" for _, word in quoted)
    for shell in SHELLS:
        found = bench.run(Framed(script).text, shell).partition(b"\n")[2].partition(b"\n")[2].split(b"\0")[:-1]
        bench.tally.check(len(found) == len(quoted), f"{shell[0]}: {len(found)} words of {len(quoted)} arrived")
        for (value, _), seen in zip(quoted, found, strict=False):
            if seen != value.encode():
                bench.tally.find(f"{shell[0]}: {value[:200]!r} arrived as {seen[:200]!r}")
                break
    return len(values)


# ---- sbatch -----------------------------------------------------------------------------------------------------------
# sbatch's own options as it reads them (24.05's sources): a second opinion on what an option takes.
SHORT = "A:a:B:b:C:c:D:d:e:F:G:Hhi:J:kL:M:m:N:n:Oo:p:Qq:S:st:uVvWw:x:"
LONG_OPTIONS = [
    *["array=", "account=", "begin=", "chdir=", "clusters=", "cluster-constraint=", "comment=", "constraint=", "contiguous", "core-spec=", "cores-per-socket=", "cpus-per-gpu=", "cpus-per-task=", "cpu-freq=", "deadline=", "delay-boot=", "dependency=", "distribution=", "error=", "exclude=", "export=", "export-file=", "extra-node-info=", "get-user-env", "gid=", "gpu-bind=", "gpu-freq=", "gpus=", "gpus-per-node=", "gpus-per-socket=", "gpus-per-task=", "gres=", "gres-flags=", "help", "hint=", "hold", "ignore-pbs", "input=", "job-name=", "kill-on-invalid-dep=", "licenses=", "mail-type=", "mail-user=", "mcs-label=", "mem=", "mem-bind=", "mem-per-cpu=", "mem-per-gpu=", "mincpus=", "network=", "nice", "no-kill", "no-requeue", "nodefile=", "nodelist=", "nodes=", "ntasks=", "ntasks-per-core=", "ntasks-per-node=", "ntasks-per-socket=", "ntasks-per-gpu=", "open-mode=", "output=", "overcommit", "oversubscribe", "parsable", "partition=", "power=", "prefer=", "priority=", "profile=", "propagate", "qos=", "quiet", "reboot", "requeue", "reservation=", "signal=", "sockets-per-node=", "spread-job", "stepmgr", "switches=", "test-only", "thread-spec=", "threads-per-core=", "time=", "time-min=", "tmp=", "tres-bind=", "tres-per-task=", "uid=", "usage", "use-min-nodes", "verbose", "version", "wait", "wait-all-nodes=", "wckey=", "wrap=", "exclusive", "container=", "container-id=", "bb=", "bbf=", "acctg-freq=", "bcast=", "resv-ports", "segment=", "external=", "reset-env"]
]  # fmt: skip
_MAY_TAKE = ("--exclusive=", "--nice=", "--propagate=", "--get-user-env=", "--no-kill=", "--resv-ports=", "--parsable=")
_OWNED = {"--array", "-a", "--wrap", "--requeue", "--wait", "-W", "--chdir", "-D", "--export", "--error", "-e", "--input", "-i",
          "--open-mode", "--test-only", "--clusters", "-M", "-J", "-o", "--get-user-env", "-Q", "--quiet", "-k", "--help", "-h",
          "--version", "-V", "--usage", "-u", "-v", "--verbose"}  # fmt: skip
_OPTION_WORDS = (
    "-c72", "-c", "72", "--mem", "0", "--mem=4G", "--licenses=x", "-x", "r1i1n3", "--nice", "--nice=5", "evil.sh", ":", "-sa1-3", "-sH",
    "-H", "-s", "-HJx", "-Ok", "--exclusive", "--exclusive=user", "--exclu", "--propagate", "--hold", "-a1-3", "--arr=1", "--wr=x", "-",
    "--", "---", "--=x", "--w", "-L", "x", "--reboot", "evil", "/bin/sh", "--mail-user=a@b", "--dependency=singleton", "-Hc4", "-W",
    "--stepmgr", "--ignore-pbs", "--contiguous", "--no", "--wait-all-nodes=1", "-sN2", "-N2", "--gpus", "1", "-G", "-t", "10", "-ct",
    "--comment", "--prefer=a", "--ex", "--export-file=x", "--he", "-g", "-uu", "-vv", "-b", "now", "--begin", "--uid", "--cpus-per-task",
)  # fmt: skip


def requests(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Fields of `AllocationRequest`, and the job's comment, through `sbatch_line` to an sbatch that writes down its words."""
    made: dict[str, tuple[AllocationRequest, str, str]] = {}
    lines = [f"scheduler=slurm\nstate_dir=/state\n{shell_text('login')}"]
    for number, value in enumerate(values):
        name = f"ab-{number:x}"
        field, arguments = _request_fields(rng, value)
        request = bench.accepted(field, lambda arguments=arguments: AllocationRequest(**arguments))
        if request is None:
            continue
        about = rng.choice(values)
        made[name] = request, about, field
        lines.append(f"one() {{\n{sbatch_line(request, comment(name, about))}\n}}\none {name} /dir/{number}")
    bench.run("\n".join(lines))
    seen = {}
    for call in bench.calls("sbatch"):
        name = next((word[11:].decode() for word in call.words if word.startswith(b"--job-name=")), "")
        seen[name] = call.words
    bench.tally.check(
        len(seen) == len(made), f"{len(seen)} of {len(made)} requests reached sbatch: {set(made) - set(seen)}"
    )
    for name, (request, about, field) in made.items():
        if name in seen:
            _check_request(bench, name, request, about, seen[name], field)
    return 2 * len(values)


def _request_fields(rng: Random, value: str) -> tuple[str, dict[str, Any]]:
    field = rng.choice(
        (
            "account",
            "partition",
            "constraint",
            "qos",
            "reservation",
            "gres",
            "memory",
            "time_limit",
            "sbatch_options",
            "options",
        )
    )
    if field == "options":
        return "sbatch_options", {"sbatch_options": [rng.choice(_OPTION_WORDS) for _ in range(rng.randint(1, 4))]}
    if field == "sbatch_options":
        glued = [f"--licenses={value}"] if rng.random() < 0.5 else ["--licenses", value]
        typed: Any = value if rng.random() < 0.3 else rng.choice(([value], glued, ["-x", value], [value, "x"]))
        return field, {"sbatch_options": typed}
    return field, {field: value, "nodes": rng.choice((1, 2))}


def _check_request(
    bench: Bench, name: str, request: AllocationRequest, about: str, seen: list[bytes], field: str
) -> None:
    number = int(name[3:], 16)
    ours = ["--parsable", "--no-requeue", "--signal=B:TERM@60", f"--comment={comment(name, about)}"]
    ours += ["--no-kill"] if request.nodes > 1 else []
    ours += [f"--job-name={name}", f"--output=/dir/{number}/keeper.log"]
    script = [f"/dir/{number}/keeper.sh", f"/dir/{number}"]
    expected = ["sbatch", *ours, *request.sbatch_arguments(), *script]
    if seen != [word.encode() for word in expected]:
        bench.tally.find(f"{field}: {expected!r:.400} arrived as {seen!r:.400}")
        return
    told = [word.split("=")[0] if word.startswith(_MAY_TAKE) else word for word in expected[1:]]
    try:
        options, rest = getopt.getopt(told, SHORT, LONG_OPTIONS)
    except getopt.GetoptError:
        return  # sbatch refuses it
    bench.tally.check(
        rest == script, f"{field}: sbatch takes {rest!r:.200} for the script, of {request.sbatch_options!r:.200}"
    )
    owned = [option for option, _ in options if option in _OWNED]
    bench.tally.check(not owned, f"{field}: {owned} came from {request.sbatch_options!r:.300}")
    bench.tally.check(":" not in told, f"{field}: ':' begins another job in {request.sbatch_options!r:.300}")


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


# ---- submission, whole ------------------------------------------------------------------------------------------------
def submissions(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """`submission` with a hostile folder, text, service and owner; read back from the state folder."""
    for number, value in enumerate(values):
        state = f"{bench.scratch()}/{value}"
        cluster = bench.accepted("state_dir", lambda state=state: SlurmCluster(LocalShell(), state_dir=state))
        if cluster is None:
            cluster = SlurmCluster(LocalShell(), state_dir=str(bench.scratch()))
        about, script = rng.choice(values), rng.choice(values)
        service = ServiceCommand("s1", 1, script, "0", (r"s/^a\(b\)/\1/p",))
        token = rng.choice(("owner", value))
        name = f"ab-{number:x}"
        text = bench.accepted(
            "value",
            lambda cluster=cluster, name=name, token=token, service=service, about=about: submission(
                name, token, AllocationRequest(), [service], about, KeeperSettings(), cluster.keeper_for(AllocationRequest(), KeeperSettings())
            ),
            "token", "about", "script",
        )  # fmt: skip
        if text is None:
            continue
        head = f"scheduler=slurm\nstate_dir={quote(cluster.state_dir)}\n"
        answer = bench.run(f"{head}{shell_text('login')}\n{text}").decode("utf-8", "replace")
        folder = Path(os.path.normpath(cluster.state_dir)) / name / "1"
        try:
            is_there = (folder / "job").exists()
        except OSError:
            is_there = False
        if not is_there:
            said = answer.startswith(("unwritable ", "busy "))
            bench.tally.check(said, f"state_dir {cluster.state_dir[:300]!r}: nothing was submitted: {answer[:300]!r}")
            bench.calls("sbatch")
            continue
        kept = (folder / "services/s1/command").read_bytes()
        bench.tally.check(kept == f"{script}\n".encode(), f"script {script[:200]!r} arrived as {kept[:200]!r}")
        kept = (folder / "about").read_bytes()
        bench.tally.check(kept == f"{about.replace(chr(10), ' ')}\n".encode(), f"about {about[:200]!r}: {kept[:200]!r}")
        bench.tally.check((folder / f"owner.{token}").exists(), f"no owner.{token}")
        [call] = bench.calls("sbatch") or [None]
        bench.tally.check(call and call.words[-1] == f"{cluster.state_dir}/{name}/1".encode(), f"folder: {call!r:.300}")
        described = bench.run(f"{head}{shell_text('login')}\ndescribe {name} 1 1\nrelease_all {name} 0").decode()
        bench.tally.check(f"owner {token}\n" in described, f"not described: {described[:300]}")
    return 4 * len(values)


# ---- what is written in a folder that becomes full, and read where somebody changed it ------------------------------------
def cuts(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """A service's command under a limit on what a file may hold: whole or not there; then, changed somewhere, it is not run."""
    for value in values:
        if not encodable(value) or "\0" in value:
            continue
        state = Path(bench.scratch())
        folder = state / NAME / "1" / "services" / "s1"
        folder.mkdir(parents=True)
        service = ServiceCommand("s1", 1, value * rng.randint(1, 40), "0", (r"s/^a\(b\)/\1/p",))
        login = f"scheduler=local\nstate_dir={quote(str(state))}\n{shell_text('login')}"
        written = f"fill() {{\n{fill(service)}}}\nservice_dir={quote(str(folder))}\nfill; printf 'code %s\\n' $?"
        answer = bench.run(f"ulimit -f {rng.choice((1, 2, 4, 4000))}\n{login}\n{written}", rng.choice(SHELLS))
        whole = f"{service.script}\n".encode()
        there = (folder / "command").read_bytes() if (folder / "command").exists() else None
        bench.tally.check(
            there in (None, whole) and (there is not None) == (answer == b"code 0\n"),
            f"a command of {len(whole)} bytes: {None if there is None else len(there)} are there, and {answer!r:.200}",
        )
        if there is None:
            bench.run(f"{login}\n{written}")
        for change in (lambda text: text, lambda text: text[: rng.randrange(len(text))], lambda text: text + b"x"):
            file = folder / rng.choice(("command", "index", "port", "port.sed"))
            before = file.read_bytes()
            after = change(before)
            file.write_bytes(after)
            proved = _is_proved(bench, rng, folder, service)
            # Line ends at the very end of the small ones are no part of what is read.
            same = after == before if file.name == "command" else after.rstrip(b"\n") == before.rstrip(b"\n")
            bench.tally.check(
                proved == same, f"{file.name}: {before[-80:]!r} became {after[-80:]!r}: proved is {proved}"
            )
            file.write_bytes(before)
    return 4 * len(values)


def _is_proved(bench: Bench, rng: Random, folder: Path, service: ServiceCommand) -> bool:
    head = keeper_script(KeeperSettings(), scheduler="local", proofs=proofs([service])).replace(
        "\nnap() {", "\nnap() { return\n"
    )
    asked = f"read_service s1 {quote(str(folder / 'command'))} && echo proved"
    text = f"set -- {quote(str(folder.parents[1]))} held none\n{head}\n{asked}"
    return b"proved" in bench.run(text, rng.choice(SHELLS))


class Nowhere(LocalShell):
    """Keeps what it is told to run, and runs none of it."""

    def __init__(self, answer: str = "") -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.answer = answer

    async def run(self, script: str, timeout: float) -> str:
        self.scripts.append(script)
        return self.answer


def names(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Names of allocations and services, tokens: refused before anything is said to the cluster, unless they are names."""

    def asks(cluster: Cluster, value: str) -> list[tuple[str, Awaitable[Any]]]:
        one = Allocation(value, 1, "7")
        good = Allocation(NAME, 1, "7")
        service = ServiceCommand(value, 1, "true", "0", ())
        return [
            ("name", cluster.look([Waiter(value, 1)])), ("service", cluster.look([Waiter(NAME, 1, offsets={value: 0})])),
            ("name", cluster.release(value)), ("name", cluster.cancel(value, "owner")), ("token", cluster.cancel(NAME, value)),
            ("name", cluster.drive([one], "me")), ("token", cluster.drive([good], value)), ("token", cluster.confirm([good], value)),
            ("name", cluster.let_go([one], "me")), ("name", cluster.post_mortem(value, 1)), ("name", cluster.add_service(one, service)),
            ("service", cluster.add_service(good, service)), ("service", cluster.stop_service(good, value)),
            ("name", cluster.stop_service(one, "s1")), ("name", cluster.run_step(one, "true", timeout=5)),
            ("name", cluster.submit(value, "owner", AllocationRequest())), ("token", cluster.submit(NAME, value, AllocationRequest())),
            ("service", cluster.submit(NAME, "owner", AllocationRequest(), [service])),
        ]  # fmt: skip

    async def main() -> None:
        for value in values:
            shell = Nowhere()
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
    shell = Nowhere()
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
            expected.append(([word.encode() for word in words], f"{script}\n".encode()))
    _run_all(bench, shell.scripts)
    seen = sorted((call.words, call.given) for call in bench.calls("srun"))
    _compare(bench, "step", sorted(expected), seen)
    return len(values)


def files(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Paths of models, to `stat`."""
    shell = Nowhere()
    cluster = SlurmCluster(shell)
    paths = []
    for value in values:
        if len(value) < 4096 and bench.accepted("value", lambda value=value: quote(value), "path") is not None:
            paths.append(value)
    asyncio.run(cluster.identity(paths))
    _run_all(bench, shell.scripts)
    seen = sorted(call.words[-1] for call in bench.calls("stat"))
    _compare(bench, "path", sorted(path.encode() for path in paths), seen)
    return len(values)


def asks(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Nodes, owners, and jobs of a listing, as the reaper and the way to a certificate hand them back to the cluster."""
    bench.calls("scancel")
    shell = Nowhere()
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


_HEADS_END = "trap 'exit 143'"  # login.sh ends with it


def _run_all(bench: Bench, scripts: Sequence[str]) -> None:
    """The bodies of several commands of one cluster below one head."""
    if scripts:
        head, mark, _ = scripts[0].partition(_HEADS_END)
        assert mark and all(script.startswith(head) for script in scripts)
        bench.run("\n".join([head, *(script[len(head) :] for script in scripts)]))


def _compare(bench: Bench, what: str, expected: list[Any], seen: list[Any]) -> None:
    if expected == seen:
        return
    bench.tally.find(f"{what}: {len(seen)} of {len(expected)} arrived")
    for one, other in zip(expected, seen, strict=False):
        if one != other:
            bench.tally.find(f"{what}: {one!r:.300} arrived as {other!r:.300}")
            break


# ---- frames and movies on the cluster ---------------------------------------------------------------------------------
def a_specification(**changes: Any) -> MovieSpecification:
    """A movie of three frames."""
    values: dict[str, Any] = {"models": [{"path": "/data/cube.obj"}], "resolution": [96, 64], "frames": 3}
    return MovieSpecification.check({**values, **changes})


def a_plan(specification: MovieSpecification | None = None) -> Plan:
    """Its frames."""
    spec = specification or a_specification()
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {})
    return Plan(spec, facts, scene_hash(spec))


class OnTheBench(SlurmCluster):
    """A cluster whose steps run on the bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        shell = Nowhere()
        shell.run = self._bench_run  # type: ignore[method-assign]
        super().__init__(shell)

    async def _bench_run(self, script: str, timeout: float) -> str:
        framed = Framed(script)
        return framed.read(await asyncio.to_thread(self._bench.run, framed.text), b"")

    async def run_step(self, allocation: Allocation, script: str, *, timeout: float, node: str = "") -> str:
        return await self._bench_run(script, timeout)


def stores(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """A hostile folder for frames, a hostile movie, node and job: read back from the folder and its manifest."""

    async def one(value: str) -> None:
        wanted = f"{bench.scratch()}/{value}"
        folder = bench.accepted("frames_dir", lambda: check_folder(wanted))
        folder = str(bench.scratch()) if folder is None else folder
        cluster, plan = OnTheBench(bench), a_plan()
        movie, node = rng.choice(values), rng.choice(values)
        store = bench.accepted(
            "frames_dir",
            lambda: ClusterStore(cluster, folder, str(bench.bin / "ffmpeg"), movie, "token-1", lambda: [Allocation(NAME, 1, "7")]),
            "movie",
        )  # fmt: skip
        if store is None:
            return
        try:
            await store.open()
        except InvalidSetting as error:
            bench.tally.check(error.field in ("frames_dir", "movie"), f"{folder[:200]!r}: {error}")
            return
        place = Path(folder)
        bench.tally.check(place.is_dir(), f"no folder {folder[:300]!r}")
        claim = base64.b64decode((place / ".driver-token-1").read_text())
        bench.tally.check(
            claim == movie.encode("utf-8", "replace"), f"movie {movie[:200]!r} arrived as {claim[:200]!r}"
        )
        header = Header("scene", {}, "snapshot", "3", {"models": [{"path": node}]}, {})
        await store.begin(header)
        Path(store.file_path(plan, 0)).write_bytes(b"a picture")
        await store.keep(plan, 0, b"", Made(0.1, node, value, "s1", "3", "snapshot"))
        lines = [json.loads(line) for line in (place / "manifest.jsonl").read_text().splitlines()]
        bench.tally.check(
            lines[0]["specification"]["models"][0]["path"] == node, f"header {node[:200]!r}: {lines[0]!r:.200}"
        )
        told = (lines[1]["node"], lines[1]["job"], lines[1]["size"])
        bench.tally.check(told == (node, value, 9), f"record {node[:200]!r}: {lines[1]!r:.300}")
        bench.tally.check((place / plan.file(0)).exists(), f"no frame in {folder[:300]!r}")
        await store.close()

    async def main() -> None:
        cluster_store._BATCH_SECONDS = 0.01
        for value in values:
            try:
                await one(value)
            except Exception as error:
                bench.tally.find(f"store {value[:200]!r}: {type(error).__name__}: {error}")

    asyncio.run(main())
    bench.calls("ffmpeg")
    return 4 * len(values)


def encodings(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Folder, movie and metadata of `encode_script`, to an ffmpeg that writes down its words and the metadata."""
    for value in values:
        output = bench.accepted(
            "output_file", lambda value=value: check_folder(f"{bench.scratch()}/{value}.mp4", "output_file")
        )
        folder = bench.accepted("frames_dir", lambda value=value: check_folder(f"{bench.scratch()}/{value}"))
        output = output or f"{bench.scratch()}/movie.mp4"
        folder = folder or str(bench.scratch())
        metadata = {rng.choice(values): rng.choice(values)}
        ffmpeg = str(bench.bin / "ffmpeg")
        script = bench.accepted(
            "output_file",
            lambda o=output, f=folder, m=metadata, p=ffmpeg: encode_script(
                Sources(f, a_plan(), p), o, Encoding(), m, poster=True, sheet=True
            ),
            "value", "metadata", "frames_dir",
        )  # fmt: skip
        if script is None:
            continue
        said = bench.run(script, SHELLS[1])
        calls = bench.calls("ffmpeg")
        if any(len(os.fsencode(part)) > 200 for part in output.split("/")) or len(output) > 3000:
            continue  # no file system takes it
        bench.tally.check(
            len(calls) == 4 and b"movie made" in said, f"{output[:300]!r}: {len(calls)} calls, {said[-200:]!r}"
        )
        bench.tally.check(Path(output).exists(), f"no {output[:300]!r}")
        for call in calls:
            if b"ffmetadata" not in call.words:
                continue
            pattern = call.words[call.words.index(b"-i") + 1].decode()
            bench.tally.check(
                pattern.replace("%05d", "00000").replace("%%", "%") == f"{folder}/00000.png",
                f"{folder[:300]!r}: {pattern[:300]!r}",
            )
            text = call.given.decode().split("comment=", 1)[1]
            told = _unescaped(text)
            bench.tally.check(json.loads(told) == metadata, f"metadata {metadata!r:.300} arrived as {told[:300]}")
    return 3 * len(values)


def _unescaped(text: str) -> str:
    """ffmpeg's metadata text as ffmpeg reads it."""
    found, escaped = [], False
    for char in text:
        if escaped or char not in "\\\n":
            found.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            break
    return "".join(found)


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


# ---- templates --------------------------------------------------------------------------------------------------------
def templates(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """What a template brings in is data: it is not rendered again, and trusted code is not rendered at all."""
    from airflow_brayns.operators.fields import read_specification
    from airflow_brayns.operators.movie import RenderFramesOperator

    ran: list[int] = []
    context: Any = {"canary": lambda: ran.append(1), "ab_canary": "", "ti": None}
    for value in values:
        hostile = f"{value}{{{{ canary() }}}}"
        context["params"] = {"value": hostile}
        operator = RenderFramesOperator(
            task_id="x", frames_dir="{{ params.value }}", specification={"models": [{"path": "{{ params.value }}"}]},
            account="{{ params.value }}", environment={"A": "{{ params.value }}"}, sbatch_options=["{{ params.value }}"],
            setup=hostile, container=hostile, scheduler="local",
        )  # fmt: skip
        operator.render_template_fields(context)
        seen = (
            operator.frames_dir, operator.account, operator.environment["A"], operator.sbatch_options[0], operator.setup, operator.container,
            operator.specification["models"][0]["path"],
        )  # fmt: skip
        bench.tally.check(seen == (hostile,) * 7, f"{value[:200]!r} was rendered again: {seen!r:.300}")
        found = bench.accepted(
            "models.0.path", lambda operator=operator: read_specification(operator, operator.specification, context), "models.0", "frames"
        )  # fmt: skip
        bench.tally.check(found is None, "a specification without frames")
        bench.tally.executed += len(ran)
        ran.clear()
    return 7 * len(values)


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


ALL: dict[str, tuple[Sender, int]] = {
    # sender, and how many values of a round's 300 it takes: those that start many processes take few
    "words": (words, 300), "requests": (requests, 60), "services": (services, 60), "submissions": (submissions, 2), "cuts": (cuts, 4), "names": (names, 10),
    "steps": (steps, 40), "asks": (asks, 20), "files": (files, 40), "stores": (stores, 2), "encodings": (encodings, 3), "messages": (messages, 100),
    "templates": (templates, 20), "local services": (local_services, 0),
}  # fmt: skip
