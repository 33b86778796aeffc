"""What is written to submit an allocation: the request, its services, its secrets, its comment, as one script."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import InvalidSetting

NAME = re.compile(r"ab-[0-9a-f]{1,40}")
SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


# Of the environment in which sbatch is run, without ssh an Airflow worker's: all that goes to the job. `--export` would keep
# PATH and what `setup` exports from the steps (Slurm 22.05, run). What a service needs stands in its command.
NAMED = ("HOME", "USER", "LOGNAME", "PATH", "SLURM_CONF")


@dataclass(frozen=True)
class ServiceCommand:
    """What to start on one node.

    :param name: the service's folder, lower-case letters, digits, `-` and `_`.
    :param index: which node of the allocation, the first is 1.
    :param script: bash; run by `bash -l` on the node with `AB_PORT` set.
    :param port: `0`, a number, or `from-to`.
    :param port_patterns: sed expressions, each with one group: the port in the log line that tells it listens. None for a
        step, which listens nowhere and whose end is awaited.
    """

    name: str
    index: int
    script: str
    port: str
    port_patterns: Sequence[str]


@dataclass(frozen=True)
class TlsFiles:
    """What an allocation's services prove themselves with. On the cluster the key is 0600 in a folder that is 0700, and goes
    with the allocation.

    :param key: PEM, without a passphrase.
    :param certificate: PEM.
    """

    key: str = field(repr=False)
    certificate: str


def submission(
    name: str,
    token: str,
    request: AllocationRequest,
    services: Iterable[ServiceCommand],
    about: str,
    keeper: KeeperSettings,
    script: str,
    after: int = 0,
    tls: TlsFiles | None = None,
) -> str:
    """The script that searches for the allocation `name` and submits it if there is none.

    :param script: the job script; what is asked for stays the same where only this is another version's.
    """
    check(NAME, "name", name)
    check(TOKEN, "token", token)
    services = list(services)
    fills = "".join(
        f'service_dir=$dir/services/{s.name}\nmkdir -p "$service_dir" || return 1\n{fill(s)}' for s in services
    )
    asked = _digest(f"{request.sbatch_arguments()}{''.join(map(_identity, services))}{keeper}")[:16]
    return (
        f"asked={asked}\n"
        f"keeper={quote(script)}\n"
        f"keeper_length={len(script.encode())}\n"
        f"about={quote(about.replace(chr(10), ' '))}\n"
        f"services() {{\n{fills}:\n}}\n"
        f"secrets() {{\n{_put_tls(tls) if tls else ''}:\n}}\n"
        f"request() {{\n{sbatch_line(request, comment(name, about))}\n}}\n"
        f"submit {name} {quote(token)} {int(after)}\n"
    )


def sbatch_line(request: AllocationRequest, text: str) -> str:
    """The sbatch command; `$1` is the job's name and `$2` the allocation's folder."""
    words = request.sbatch_arguments()
    ours = ["--parsable", "--no-requeue", "--signal=B:TERM@60", f"--comment={text}"]
    if request.nodes > 1:
        ours.append("--no-kill")
    asked, first = (" ".join(quote(word) for word in some) for some in (words, ours))
    named = " ".join(f'${{{name}:+"{name}=${name}"}}' for name in NAMED)
    # Ours first: an option of the site's own that takes the word behind it must not take one of these.
    return (
        f'at_most 60 env -i {named} sbatch {first} --job-name="$1" --output="$2/keeper.log" {asked} "$2/keeper.sh" "$2"'
    )


def _files(service: ServiceCommand) -> dict[str, str]:
    """What a service's folder holds before it starts; `command` comes last, for with it the service is there."""
    patterns = "".join(f"{pattern}\n" for pattern in service.port_patterns)
    return {
        "index": f"{service.index}\n",
        "port": f"{service.port}\n",
        "port.sed": patterns,
        "command": f"{service.script}\n",
    }


def _identity(service: ServiceCommand) -> str:
    """What is asked for, as 0.2.0 spelled it: what it submitted is adopted."""
    files = {"command.new" if name == "command" else name: text for name, text in _files(service).items()}
    written = "".join(f'printf "%s" {quote(text)} >"$service_dir/{name}"\n' for name, text in files.items())
    head = f'service_dir=$dir/services/{service.name}\nmkdir -p "$service_dir"\n'
    return f'{head}{written}mv "$service_dir/command.new" "$service_dir/command"\n'


def proof(service: ServiceCommand) -> str:
    """The digest by which a node knows that a service's files are whole, and those that were written for it."""
    sums = {name: _digest(text) for name, text in _files(service).items()}
    return _digest("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def proofs(services: Iterable[ServiceCommand], tls: TlsFiles | None = None) -> dict[str, str]:
    """The digests that go with the job script: of all services, and under `/tls` of certificate and key."""
    found = {service.name: proof(service) for service in services}
    return found if tls is None else {**found, "/tls": _digest(tls.certificate + tls.key)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fill(service: ServiceCommand) -> str:
    """The lines that write a service's files into `$service_dir`; they stop at the first that cannot be written whole."""
    check(SERVICE, "service", service.name)
    return "".join(_write(f'"$service_dir"/{name}', text) for name, text in _files(service).items())


def _write(path: str, text: str) -> str:
    """`printf` is the shell's own: nothing of this is ever in an argument list."""
    word = quote(text)
    return f"write {path} {len(text.encode())} {word} || return 1\n"


def _put_tls(tls: TlsFiles) -> str:
    """The umask is 077."""
    files = (("key", tls.key), ("cert", tls.certificate))
    return 'mkdir -p "$dir/tls" || return 1\n' + "".join(_write(f'"$dir/tls"/{name}.pem', text) for name, text in files)


def mark(installation: str) -> str:
    """An Airflow's mark, as a job's comment holds it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", installation)[:64]


def comment(name: str, about: str) -> str:
    """The job's comment: whose it is, and what an admin wants to read in squeue."""
    try:
        told = json.loads(about)
        whose, what = str(told["installation"]), f"{told['dag_id']}/{told['run_id']}/{told['task_id']}"
        deployment = re.sub(r"[^A-Za-z0-9_.:-]+", "_", str(told.get("deployment", "")))[:120]
    except (ValueError, KeyError, TypeError):
        whose, what, deployment = "", about or name, ""
    readable = re.sub(r"[^A-Za-z0-9_.:/+@=-]+", "_", what)[:200]
    return f"airflow-brayns:{mark(whose)}:{readable}" + (f"#{deployment}" if deployment else "")


def check(pattern: re.Pattern[str], field_name: str, value: str) -> None:
    """:raises InvalidSetting: the value is not of that form."""
    if not pattern.fullmatch(value):
        raise InvalidSetting(field_name, f"{value[:80]!r} is not of the form {pattern.pattern}")
