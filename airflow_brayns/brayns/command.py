"""The command line of each generation of braynsService, as a bash script that a node runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_brayns.errors import InvalidSetting

GENERATIONS = (1, 2, 3)
LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "critical", "off")
SETUP_FAILED, GENERATION_UNKNOWN, NO_TLS, EXECUTABLE_MISSING = 97, 96, 95, 127
NOT_PROVED, PORT_NOT_OURS = 94, 98  # the keeper's
# sed programs that give the port in the line which a service prints once it listens (read; run for 3.10.1)
PORT_PATTERNS = (
    r"s/.*Server started on '.*:\([0-9][0-9]*\)'.*/\1/p",
    r"s/.*Rockets server running on .*:\([0-9][0-9]*\).*/\1/p",
)
_PLUGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
# bash keeps these to itself (5.2, run): an export of them fails, or another value arrives. AB_… are the keeper's.
_NOT_YOURS = re.compile(
    r"AB_PORT|AB_FOLDER|AB_SERVICE|_|BASH|BASHOPTS|BASHPID|BASH_(?!ENV).*|COMP_WORDBREAKS|DIRSTACK|EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|GROUPS|"
    r"HISTCMD|LINENO|OLDPWD|OPTIND|PIPESTATUS|PPID|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID"
)
# Bytes. The kernel takes no variable of more than 128 KiB.
_LONGEST_PATH, _LONGEST_VALUE, _LONGEST_CODE = 4095, 100_000, 1_000_000


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_path(text: str) -> bool:
    if not text or text.startswith("-") or {"\0", "\n"} & set(text):
        return False
    return _is_utf8(text) and len(text.encode()) <= _LONGEST_PATH


def check_port(port: str | int) -> str:
    """`0`, a number or `from-to` as text.

    :raises InvalidSetting: for anything else.
    """
    text = str(port).strip() if not isinstance(port, int) or port < 1 << 16 else "too large"
    if _PORT.fullmatch(text):
        low, _, high = text.partition("-")
        if int(low) <= 65535 and (not high or 0 < int(low) <= int(high) <= 65535):
            return f"{int(low)}-{int(high)}" if high else str(int(low))
    raise InvalidSetting("port", f"{text!r} is not a port: write 0 (the kernel picks), a number, or from-to")


@dataclass(frozen=True)
class ServiceSpec:
    """How a braynsService is to be started.

    :param plugins: names without `lib` and `.so`.
    :param executable: name or path of braynsService on the nodes.
    :param generation: 1, 2 or 3; None to ask the executable's `--version` on the node.
    :param host: address to listen on.
    :param port: `0`, a number or `from-to`.
    :param max_clients: how many clients at once (generations 2 and 3; a count of threads, HTTP included).
    :param log_level: generation 3; below `info` the listening line is not printed, so port 0 needs `info` or more.
    :param setup: bash lines before the service starts (`module load …`), trusted code of the connection's owner.
    :param environment: variables for the service.
    :param certificate_file: PEM on the nodes; with it the service speaks TLS (generations 2 and 3). A leading `$AB_FOLDER/` is
        the allocation's folder.
    :param private_key_file: its key, without a passphrase: braynsService logs one, and shows it in `ps` (run).
    :param container: words put before the executable, such as `apptainer exec image.sif`; trusted like `setup`.
    :raises InvalidSetting: naming the field.
    """

    plugins: Sequence[str] = ()
    executable: str = "braynsService"
    generation: int | None = None
    host: str = "0.0.0.0"
    port: str = "0"
    max_clients: int = 4
    log_level: str = "info"
    setup: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    certificate_file: str = ""
    private_key_file: str = ""

    def __post_init__(self) -> None:
        for plugin in self.plugins:
            if not isinstance(plugin, str) or not _PLUGIN.fullmatch(plugin):
                raise InvalidSetting(
                    "plugins", f"{str(plugin)[:80]!r} is not a plugin's name, such as braynsCircuitExplorer"
                )
        if not _is_path(self.executable):
            raise InvalidSetting("executable", f"{self.executable[:80]!r} is not a program's name or path")
        if self.generation not in (None, *GENERATIONS):
            raise InvalidSetting("generation", f"must be 1, 2 or 3, not {self.generation!r}")
        check_port(self.port)
        if not 1 <= self.max_clients <= 10_000:
            raise InvalidSetting("max_clients", "must be a whole number from 1 to 10,000")
        if self.log_level not in LOG_LEVELS:
            raise InvalidSetting("log_level", f"must be one of {', '.join(LOG_LEVELS)}, not {self.log_level!r}")
        if LOG_LEVELS.index(self.log_level) > LOG_LEVELS.index("info"):
            raise InvalidSetting(
                "log_level",
                f"{self.log_level!r} hides the line that tells the port, by which readiness is known; use info, debug or trace",
            )
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or _NOT_YOURS.fullmatch(name):
                raise InvalidSetting("environment", f"{name[:80]!r} is not the name of a variable that can be set")
            if "\0" in str(value) or not _is_utf8(str(value)) or len(str(value).encode()) > _LONGEST_VALUE:
                raise InvalidSetting(
                    "environment",
                    f"the value of {name} is longer than 100,000 bytes, or holds a NUL or half a character",
                )
        if bool(self.certificate_file) != bool(self.private_key_file):
            raise InvalidSetting(
                "tls_certificate_file and tls_private_key_file", "belong together: give both, as paths on the nodes"
            )
        for name in ("certificate_file", "private_key_file"):
            if (path := getattr(self, name)) and not _is_path(path):
                raise InvalidSetting(f"tls_{name}", f"{path[:80]!r} is not a file's path")
        if self.certificate_file and self.generation == 1:
            raise InvalidSetting("tls", "generation 1 of braynsService has none; set tls to 'off', or use a newer one")
        if "\0" in self.setup or "\0" in self.container or "\n" in self.container:
            raise InvalidSetting("setup or container", "holds a NUL character or, in container, a line break")
        if not _is_utf8(self.setup + self.container) or len(self.setup + self.container) > _LONGEST_CODE:
            raise InvalidSetting("setup or container", "is longer than a million characters, or holds half a character")

    def arguments(self, generation: int) -> list[str]:
        """The options of that generation; the port is the shell variable `AB_PORT`."""
        address = f'{shlex.quote(self.host + ":")}"$AB_PORT"'
        plugins = [word for plugin in self.plugins for word in ("--plugin", shlex.quote(plugin))]
        if generation == 1:
            return ["--http-server", address, *plugins]
        common = ["--uri", address, "--max-clients", str(self.max_clients), *plugins]
        if self.certificate_file:
            common += ["--secure", "true", "--private-key-file", _in_folder(self.private_key_file)]
            common += ["--certificate-file", _in_folder(self.certificate_file)]
        return common if generation == 2 else [*common, "--log-level", self.log_level]

    def script(self) -> str:
        """Bash for a node: set up, find the generation if need be, become the service."""
        lines = [f"export {name}={shlex.quote(str(value))}" for name, value in self.environment.items()]
        if self.setup.strip():
            lines += [
                # Only for the setup's own lines: what a sourced file does inside is its own affair.
                'trap \'code=$?; [ "${#BASH_SOURCE[@]}" -gt 1 ] || '
                f'{{ echo "airflow-brayns: setup failed with exit code $code"; exit {SETUP_FAILED}; }}\' ERR',
                self.setup.strip(),
                "trap - ERR",
            ]
        program = f"{self.container} {shlex.quote(self.executable)}".strip()
        if not self.container:
            name = shlex.quote(self.executable)
            lines.append(
                f"command -v {name} >/dev/null || "
                f"{{ printf 'airflow-brayns: executable %s not found on %s\\n' {name} \"$(hostname)\"; exit {EXECUTABLE_MISSING}; }}"
            )
        if self.generation is not None:
            return "\n".join([*lines, f"exec {program} {' '.join(self.arguments(self.generation))}", ""])
        cases = [f"{number}.*) exec {program} {' '.join(self.arguments(number))} ;;" for number in GENERATIONS]
        if self.certificate_file:
            cases[0] = f"1.*) echo 'airflow-brayns: generation 1 of braynsService has no TLS'; exit {NO_TLS} ;;"
        lines += [
            f"version=$({program} --version 2>&1)",
            "code=$?",
            "version=$(printf '%s\\n' \"$version\" | grep -Eo '[0-9]+[.][0-9]+[.][0-9]+' | head -n 1)",
            'case "$version" in',
            *cases,
            # Killed, it has told nothing; another try may.
            f"*) [ $code -lt 128 ] || exit $code; echo \"airflow-brayns: no generation of the command line for version '$version'\"; exit {GENERATION_UNKNOWN} ;;",
            "esac",
        ]
        return "\n".join([*lines, ""])


def _in_folder(path: str) -> str:
    """A path as a word of bash; the allocation's folder is known on the node only."""
    inside = path.removeprefix("$AB_FOLDER/")
    return shlex.quote(path) if inside == path else f'"$AB_FOLDER"/{shlex.quote(inside)}'
