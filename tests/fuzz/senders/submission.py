"""Words of a shell, sbatch's options, and all that is written to submit an allocation."""

from __future__ import annotations

import getopt
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.owner import comment
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import file_text, script_of
from airflow_brayns.cluster.shell import Framed, LocalShell, quote
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand, fill, proofs, sbatch_line, submission
from tests.fuzz.bench import SHELLS, Bench, encodable
from tests.fuzz.senders.common import NAME, Quoting


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
    lines = [f"scheduler=slurm\nstate_dir=/state\n{script_of('submit')}"]
    for number, value in enumerate(values):
        name = f"ab-{number:x}"
        field, arguments = _request_fields(rng, value)
        request = bench.accepted(field, lambda arguments=arguments: AllocationRequest(**arguments))
        if request is None:
            continue
        about = rng.choice(values)
        made[name] = request, about, field
        lines.append(f"one() {{\nat_most 60 {sbatch_line(request, comment(name, about))}\n}}\none {name} /dir/{number}")
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
        answer = bench.run(f"{head}{script_of('submit')}{text}").decode("utf-8", "replace")
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
        described = bench.run(f"{head}{script_of('look')}describe {name} 1 1").decode()
        bench.run(f"{head}{script_of('release')}release_all {name} 0")
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
        login = f"scheduler=local\nstate_dir={quote(str(state))}\n{script_of('services')}"
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
    text = f"set -- {quote(str(folder.parents[1]))}\n{head.removesuffix(file_text('keeper'))}\n{asked}"
    return b"proved" in bench.run(text, rng.choice(SHELLS))
