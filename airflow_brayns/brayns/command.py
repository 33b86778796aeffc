"""The command line of each generation of braynsService, as a bash script that a node runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_brayns.errors import InvalidSetting

GENERATIONS = (1, 2, 3)
LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "critical", "off")
SETUP_FAILED, GENERATION_UNKNOWN, NO_TLS, CANNOT_RUN, EXECUTABLE_MISSING = 97, 96, 95, 126, 127
SETUP_ENDED = 93
NOT_PROVED, PORT_NOT_OURS = 94, 98  # exit codes that the keeper gives (proof.sh, port.sh), not the service's script
# These sed programs print the port in the line by which a service tells that it listens (source read; run for 3.10.1).
PORT_PATTERNS = (
    r"s/.*Server started on '.*:\([0-9][0-9]*\)'.*/\1/p",
    r"s/.*Rockets server running on .*:\([0-9][0-9]*\).*/\1/p",
)
_PLUGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
# Variables that bash keeps to itself (5.2, run): an export of them fails, or another value arrives. AB_… are the
# keeper's.
_NOT_YOURS = re.compile(
    r"AB_PORT|AB_FOLDER|AB_SERVICE|AB_JOB|_|BASH|BASHOPTS|BASHPID|BASH_(?!ENV).*|COMP_WORDBREAKS|DIRSTACK|EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|GROUPS|"
    r"HISTCMD|LINENO|OLDPWD|OPTIND|PIPESTATUS|PPID|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID"
)
# These limits are in bytes. The kernel takes no variable of more than 128 KiB.
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
    """Check a port as a user writes it, and return it as text: `0`, a number, or `from-to`.

    :raises InvalidSetting: the port is none of these.
    """
    text = str(port).strip() if not isinstance(port, int) or port < 1 << 16 else "too large"
    if _PORT.fullmatch(text):
        low, _, high = text.partition("-")
        if int(low) <= 65535 and (not high or 0 < int(low) <= int(high) <= 65535):
            return f"{int(low)}-{int(high)}" if high else str(int(low))
    raise InvalidSetting("port", f"{text!r} is not a port.", remedy="write 0 (the kernel picks), a number, or from-to.")


@dataclass(frozen=True)
class ServiceSpec:
    """The way in which a braynsService is to be started.

    :param plugins: names without `lib` and `.so`.
    :param executable: name or path of braynsService on the nodes.
    :param generation: 1, 2 or 3; None to ask the executable's `--version` on the node.
    :param host: address to listen on.
    :param port: `0`, a number or `from-to`.
    :param max_clients: how many clients the service serves at once (generations 2 and 3; a count of threads, HTTP
        included).
    :param log_level: what a service of generation 3 logs; below `info` it does not print that it listens, so port 0
        needs `info`, `debug` or `trace`.
    :param setup: bash lines before the service starts (`module load …`), trusted code of the connection's owner.
    :param environment: variables for the service.
    :param certificate_file: PEM on the nodes; with it the service speaks TLS (generations 2 and 3). A leading
        `$AB_FOLDER/` is the allocation's folder.
    :param private_key_file: the certificate's key, without a passphrase: braynsService would log it, and show it in
        `ps` (run).
    :param container: words put before the executable, such as `apptainer exec image.sif`; trusted like `setup`.
    :raises InvalidSetting: a value cannot work; the error names the field.
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
        self._check_program()
        check_port(self.port)
        self._check_options()
        self._check_environment()
        self._check_tls()
        self._check_code()

    def _check_program(self) -> None:
        for plugin in self.plugins:
            if not isinstance(plugin, str) or not _PLUGIN.fullmatch(plugin):
                raise InvalidSetting(
                    "plugins",
                    f"{str(plugin)[:80]!r} is not a plugin's name.",
                    remedy="write names, such as braynsCircuitExplorer.",
                )
        if not _is_path(self.executable):
            raise InvalidSetting(
                "executable",
                f"{self.executable[:80]!r} is not a program's name or path",
                remedy="give the program's name, or its path on the nodes.",
            )
        if self.generation not in (None, *GENERATIONS):
            raise InvalidSetting("generation", f"must be 1, 2 or 3, not {self.generation!r}")

    def _check_options(self) -> None:
        if not 1 <= self.max_clients <= 10_000:
            raise InvalidSetting("max_clients", "must be a whole number from 1 to 10,000")
        if self.log_level not in LOG_LEVELS:
            raise InvalidSetting("log_level", f"must be one of {', '.join(LOG_LEVELS)}, not {self.log_level!r}")
        if LOG_LEVELS.index(self.log_level) > LOG_LEVELS.index("info"):
            raise InvalidSetting(
                "log_level",
                f"{self.log_level!r} hides the line that tells the port, by which readiness is known.",
                remedy="use info, debug or trace.",
            )

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or _NOT_YOURS.fullmatch(name):
                raise InvalidSetting(
                    "environment",
                    f"{name[:80]!r} is not the name of a variable that can be set",
                    remedy="use letters, digits and underscores, and none of the loader's or the shell's own.",
                )
            if "\0" in str(value) or not _is_utf8(str(value)) or len(str(value).encode()) > _LONGEST_VALUE:
                raise InvalidSetting(
                    "environment",
                    f"the value of {name} is longer than 100,000 bytes, or holds a NUL or half a character",
                    remedy="give a value of at most 100,000 bytes, in whole characters without NUL.",
                )

    def _check_tls(self) -> None:
        if bool(self.certificate_file) != bool(self.private_key_file):
            raise InvalidSetting(
                "tls_certificate_file and tls_private_key_file",
                "They belong together.",
                remedy="give both, as paths on the nodes.",
            )
        for name in ("certificate_file", "private_key_file"):
            if (path := getattr(self, name)) and not _is_path(path):
                raise InvalidSetting(
                    f"tls_{name}", f"{path[:80]!r} is not a file's path", remedy="give the file's path on the nodes."
                )
        if self.certificate_file and self.generation == 1:
            raise InvalidSetting(
                "tls", "generation 1 of braynsService has none.", remedy="set tls to 'off', or use a newer one."
            )

    def _check_code(self) -> None:
        if "\0" in self.setup or "\0" in self.container or "\n" in self.container:
            raise InvalidSetting(
                "setup or container",
                "They cannot be passed on.",
                remedy="take the NUL character out, and, in container, the line break.",
            )
        if not _is_utf8(self.setup + self.container) or len(self.setup + self.container) > _LONGEST_CODE:
            raise InvalidSetting(
                "setup or container",
                "It is longer, or holds half a character.",
                remedy="make it shorter than a million characters, in whole characters.",
            )

    def arguments(self, generation: int) -> list[str]:
        """The options that a braynsService of a generation is given; the port is the shell variable `AB_PORT`."""
        address = f'{shlex.quote(self.host + ":")}"$AB_PORT"'
        plugins = [word for plugin in self.plugins for word in ("--plugin", shlex.quote(plugin))]
        if generation == 1:
            return ["--http-server", address, *plugins]
        common = ["--uri", address, "--max-clients", str(self.max_clients), *plugins]
        if self.certificate_file:
            common += ["--secure", "true", "--private-key-file", _in_folder(self.private_key_file)]
            common += ["--certificate-file", _in_folder(self.certificate_file)]
        return common if generation == 2 else [*common, "--log-level", self.log_level]

    def trial(self) -> str:
        """The bash script that tells whether the service could be started: it does what `script` does, and prints the version."""
        tell = "printf 'version %s\\n' \"$version\"; exit 0"
        known = [f"{number}.*) {tell} ;;" for number in GENERATIONS]
        if self.generation is not None:
            known = [f"*) {tell} ;;"]
        return "\n".join([*self._prepared(), *self._versions(known)])

    def script(self) -> str:
        """The bash script for a node: it sets up, finds the generation if need be, and becomes the service."""
        lines = self._prepared()
        program = self._program
        if self.generation is not None:
            return "\n".join([*lines, f"exec {program} {' '.join(self.arguments(self.generation))}", ""])
        cases = [f"{number}.*) exec {program} {' '.join(self.arguments(number))} ;;" for number in GENERATIONS]
        if self.certificate_file:
            cases[0] = f"1.*) echo 'airflow-brayns: generation 1 of braynsService has no TLS'; exit {NO_TLS} ;;"
        return "\n".join([*lines, *self._versions(cases)])

    @property
    def _program(self) -> str:
        return f"{self.container} {shlex.quote(self.executable)}".strip()

    def _prepared(self) -> list[str]:
        """What comes before the executable: variables, `setup`, and whether there is one."""
        lines = [f"export {name}={shlex.quote(str(value))}" for name, value in self.environment.items()]
        if self.setup.strip():
            lines += [
                # Of `exit`, a quote or here-document that is left open, an `exec` of what is not there: the service's own
                # lines are not reached. Behind an `exec` that works no trap is run: see `services.connection_test`.
                f"trap 'code=$?; echo \"airflow-brayns: the shell ended within setup with exit code $code\"; exit {SETUP_ENDED}' EXIT",
                # The trap is for the setup's own lines only: what fails inside a file that it sources is that file's
                # affair.
                'trap \'code=$?; [ "${#BASH_SOURCE[@]}" -gt 1 ] || '
                f'{{ trap - EXIT; echo "airflow-brayns: setup failed with exit code $code"; exit {SETUP_FAILED}; }}\' ERR',
                self.setup.strip(),
                "",  # a backslash at its end takes this line, and none of ours
                "trap - ERR EXIT",
            ]
        if not self.container:
            name = shlex.quote(self.executable)
            lines.append(
                f"command -v {name} >/dev/null || "
                f"{{ printf 'airflow-brayns: executable %s not found on %s\\n' {name} \"$(hostname)\"; exit {EXECUTABLE_MISSING}; }}"
            )
        return lines

    def _versions(self, cases: Sequence[str]) -> list[str]:
        """The executable's own version, and what is done for each."""
        return [
            f"said=$({self._program} --version 2>&1)",
            "code=$?",
            # It is not there, may not be run, or lacks a library: what said so tells more than that there is no version.
            f"case $code in {CANNOT_RUN} | {EXECUTABLE_MISSING}) printf '%s\\n' \"$said\"; exit $code ;; esac",
            "version=$(printf '%s\\n' \"$said\" | grep -Eo '[0-9]+[.][0-9]+[.][0-9]+' | head -n 1)",
            'case "$version" in',
            *cases,
            # An executable that was killed has not told its version; another try may succeed.
            f"*) [ $code -lt 128 ] || exit $code; echo \"airflow-brayns: no generation of the command line for version '$version'\"; exit {GENERATION_UNKNOWN} ;;",
            "esac",
            "",
        ]


def _in_folder(path: str) -> str:
    """A path as a word of bash; `$AB_FOLDER`, the allocation's folder, stays a variable, since only the node knows it."""
    inside = path.removeprefix("$AB_FOLDER/")
    return shlex.quote(path) if inside == path else f'"$AB_FOLDER"/{shlex.quote(inside)}'
