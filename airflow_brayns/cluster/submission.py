"""The script that submits an allocation: the request, its services, its secrets and its comment."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.owner import comment
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.sbatch_errors import REFUSALS, SLURMS_OWN, UNSPECIFIED
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import InvalidSetting, ServiceFailed

NAME = re.compile(r"ab-[0-9a-f]{1,40}")
SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


# The only variables that go to the job, of the environment in which sbatch is run (without ssh, an Airflow worker's).
# `--export` would keep PATH and what `setup` exports from the steps (Slurm 22.05, run). What a service needs stands in
# its command.
NAMED = ("HOME", "USER", "LOGNAME", "PATH", "SLURM_CONF")
_AVOID = '${avoid:+"--exclude=$avoid"}'  # nodes on which services fail, as submit.sh has found them


@dataclass(frozen=True)
class ServiceCommand:
    """A service to start on one node.

    :param name: the service's folder, lower-case letters, digits, `-` and `_`.
    :param index: the number of its node in the allocation; the first is 1.
    :param script: bash, which `bash -l` runs on the node with `AB_PORT` set.
    :param port: the port to listen on: `0` (the kernel picks), a number, or `from-to`.
    :param port_patterns: sed expressions, each with one group: the port in the log line that tells it listens. A step
        has none: it listens nowhere, and its end is awaited.
    :param identity: the text by which a next try knows the service again; empty for `script`. It is not written down.
    """

    name: str
    index: int
    script: str
    port: str
    port_patterns: Sequence[str]
    identity: str = field(default="", compare=False)


@dataclass(frozen=True)
class TlsFiles:
    """The certificate and key of an allocation's services. On the cluster the key is 0600 in a folder that is 0700, and
    is removed with the allocation.

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
    """The script that searches for an allocation by its name, and submits it if there is none. The parameters are
    `Cluster.submit`'s.

    :param script: the job script. It is no part of what is asked for: a running allocation is adopted although another
        version wrote its script.
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
        f"refusals={quote(REFUSALS)}\n"
        f"slurms_own={quote(chr(10).join(SLURMS_OWN))}\n"
        f"unspecified={quote(UNSPECIFIED)}\n"
        f"choosy={'yes' if request.chooses_nodes else ''}\n"
        f"nodes_wanted={request.nodes}\n"
        f"partitions={quote(request.partition or '')}\n"
        f"services() {{\n{fills}:\n}}\n"
        f"secrets() {{\n{_put_tls(tls) if tls else ''}:\n}}\n"
        f"request() {{\nat_most 60 {sbatch_line(request, comment(name, about))}\n}}\n"
        f"submit {name} {quote(token)} {int(after)}\n"
    )


def sbatch_line(request: AllocationRequest, text: str) -> str:
    """The command line of sbatch; `$1` is the job's name and `$2` the allocation's folder.

    :param text: the job's comment.
    """
    words = request.sbatch_arguments()
    ours = ["--parsable", "--no-requeue", "--signal=B:TERM@60", f"--comment={text}"]
    if request.nodes > 1:
        ours.append("--no-kill")
    asked, first = (" ".join(quote(word) for word in some) for some in (words, ours))
    named = " ".join(f'${{{name}:+"{name}=${name}"}}' for name in NAMED)
    # Our options stand first: an option of the site's own that takes the word behind it must not take one of them.
    return (
        f'env -i {named} sbatch {first} --job-name="$1" --output="$2/keeper.log" {_AVOID} {asked} "$2/keeper.sh" "$2"'
    )


def _files(service: ServiceCommand) -> dict[str, str]:
    """The files of a service's folder before it starts; `command` comes last, since it announces the service."""
    patterns = "".join(f"{pattern}\n" for pattern in service.port_patterns)
    return {
        "index": f"{service.index}\n",
        "port": f"{service.port}\n",
        "port.sed": patterns,
        "command": f"{service.script}\n",
    }


def _identity(service: ServiceCommand) -> str:
    """The lines by which 0.2.0 wrote a service, which the digest of a request is made of: what 0.2.0 submitted is
    adopted.
    """
    service = replace(service, script=service.identity or service.script)
    files = {"command.new" if name == "command" else name: text for name, text in _files(service).items()}
    written = "".join(f'printf "%s" {quote(text)} >"$service_dir/{name}"\n' for name, text in files.items())
    head = f'service_dir=$dir/services/{service.name}\nmkdir -p "$service_dir"\n'
    return f'{head}{written}mv "$service_dir/command.new" "$service_dir/command"\n'


def wanted(service: ServiceCommand) -> str:
    """The digest of what is wanted of a service, by which a next try knows one that was started later; empty where its command does
    not tell.
    """
    return _digest(_identity(service))[:16] if service.identity else ""


def read_command(name: str, told: Iterable[tuple[str, list[str]]], *, must_be_known: bool) -> ServiceCommand:
    """Read what a service was started with, from what `command_of` in services.sh prints: `fill` in reverse.

    :param name: the service's name.
    :param must_be_known: whether a command is believed only if its job knows its digest.
    :raises ServiceFailed: the command is not there, or not what was written.
    """
    texts, known = dict[str, str](), ""
    for word, fields in told:
        match word, fields:
            case "part", [part, text]:
                with contextlib.suppress(ValueError):  # the errors of binascii and of Unicode are ValueErrors
                    texts[part] = base64.b64decode(text, validate=True).decode()
            case (("known" | "proof"), [digest]):
                known = known or digest
    try:
        patterns = tuple(texts["port.sed"].split("\n")[:-1])
        script = texts["command"].removesuffix("\n")
        command = ServiceCommand(name, int(texts["index"]), script, texts["port"].strip(), patterns)
    except (KeyError, ValueError):
        raise ServiceFailed(
            f"What {name} was started with is not in its folder any more.",
            remedy="Clear the task that started the service.",
            retry=False,
        ) from None
    unproved = proof(command) != known if known else must_be_known
    if _files(command) != texts or unproved:
        raise ServiceFailed(
            f"The command of {name} is not what was written for it; it is not run again.",
            remedy="Clear the task that started the service.",
            retry=False,
        )
    return command


def proof(service: ServiceCommand) -> str:
    """The digest of a service's files, by which a node knows that they are whole and those that were written for it."""
    sums = {name: _digest(text) for name, text in _files(service).items()}
    return _digest("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def proofs(services: Iterable[ServiceCommand], tls: TlsFiles | None = None) -> dict[str, str]:
    """The digests that go with the job script, by name: one for each service, and one under `/tls` for certificate and
    key.
    """
    found = {service.name: proof(service) for service in services}
    return found if tls is None else {**found, "/tls": _digest(tls.certificate + tls.key)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fill(service: ServiceCommand) -> str:
    """The lines of sh that write a service's files into `$service_dir`; they stop at the first file that cannot be
    written whole.
    """
    check(SERVICE, "service", service.name)
    return "".join(_write(f'"$service_dir"/{name}', text) for name, text in _files(service).items())


def _write(path: str, text: str) -> str:
    """A line of sh that writes a text to a path. `printf` is the shell's own, so the text is never in an argument list."""
    word = quote(text)
    return f"write {path} {len(text.encode())} {word} || return 1\n"


def _put_tls(tls: TlsFiles) -> str:
    """The lines of sh that write certificate and key into the allocation's folder; the umask is 077."""
    files = (("key", tls.key), ("cert", tls.certificate))
    return 'mkdir -p "$dir/tls" || return 1\n' + "".join(_write(f'"$dir/tls"/{name}.pem', text) for name, text in files)


def check(pattern: re.Pattern[str], field_name: str, value: str) -> None:
    """Check a value against a pattern.

    :raises InvalidSetting: the value is not of that form.
    """
    if not pattern.fullmatch(value):
        raise InvalidSetting(
            field_name, f"{value[:80]!r} is not of that form.", remedy=f"write it as {pattern.pattern}."
        )
