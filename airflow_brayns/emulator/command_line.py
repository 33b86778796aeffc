"""`brayns-emulator`: the command lines of the three generations of braynsService, and the start as its log tells it."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from airflow_brayns.emulator.faults import VARIABLE, Faults
from airflow_brayns.emulator.schemas import PLUGIN_NAMES
from airflow_brayns.emulator.service import BraynsState

_LEVELS = ("trace", "debug", "info", "warn", "error", "critical", "off")
_LIBRARIES = ("embreex", "h5py", "numpy", "PIL")


class UsageError(Exception):
    """The command line cannot be taken; the text is what the service of that generation prints."""


@dataclass
class Options:
    """A command line, understood."""

    host: str = "0.0.0.0"
    port: int = 5000
    plugins: list[str] = field(default_factory=list)
    max_clients: int = 2
    log_level: str = "info"
    secure: bool = False
    certificate_file: str = ""
    private_key_file: str = ""
    private_key_passphrase: str = ""
    sandbox_path: str = ""


def _listen_address(text: str, generation: int) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or (generation == 3 and not host):
        raise UsageError(f"Fatal error: 'Invalid URI: '{text}''.")
    return host or "0.0.0.0", int(port)


def parse(arguments: list[str], generation: int) -> Options:
    """Read a command line as braynsService of `generation` (1, 2 or 3) reads it.

    :raises UsageError: with the text that the service prints before it exits 1.
    """
    known = {
        1: {"http-server", "plugin", "sandbox-path"},
        2: {"uri", "plugin", "max-clients", "secure", "private-key-file", "private-key-passphrase", "certificate-file", "ca-location", "sandbox-path"},
        3: {"uri", "plugin", "max-clients", "secure", "private-key-file", "private-key-passphrase", "certificate-file", "ca-location", "log-level"},
    }[generation]  # fmt: skip
    options = Options()
    words = iter(arguments)
    for word in words:
        name = word.removeprefix("--")
        if not word.startswith("--"):
            raise UsageError(
                f"Fatal error: 'Positional argument not supported: '{word}''."
                if generation == 3
                else f"Too many positional options have been specified on the command line: '{word}'"
            )
        if name not in known:
            raise UsageError(
                f"Fatal error: 'Unknown keyword argument '{name}''."
                if generation == 3
                else f"Unrecognized option '{word}'."
            )
        value = next(words, None)
        if value is None:
            raise UsageError(f"Fatal error: 'Argument '{name}' has no value'.")
        _apply(options, name, value, generation)
    return options


def _apply(options: Options, name: str, value: str, generation: int) -> None:
    match name:
        case "http-server" | "uri":
            options.host, options.port = _listen_address(value, generation)
        case "plugin":
            options.plugins.append(value)
        case "max-clients":
            if not value.isdigit() or int(value) < 1:
                raise UsageError(f"Fatal error: 'Argument 'max-clients': invalid value '{value}''.")
            options.max_clients = int(value)
        case "secure":
            if value not in ("true", "false"):
                raise UsageError(f"Fatal error: 'Argument 'secure': invalid boolean '{value}''.")
            options.secure = value == "true"
        case "log-level":
            if value not in _LEVELS:
                raise UsageError(f"Fatal error: 'Argument 'log-level': invalid enum '{value}''.")
            options.log_level = value
        case _:
            setattr(options, name.replace("-", "_"), value)


class Log:
    """Lines on stdout, each flushed, as the generation words them."""

    def __init__(self, level: str, generation: int) -> None:
        self._threshold = _LEVELS.index(level)
        self._generation = generation

    def __call__(self, text: str, level: str = "info") -> None:
        if _LEVELS.index(level) >= self._threshold:
            prefix = f"[{level}][{time.strftime('%H:%M:%S')}] " if self._generation > 1 else ""
            print(f"{prefix}{text}", flush=True)


def _check_libraries(log: Log) -> None:
    """End before anything listens: a service that dies at its first model must never look usable."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        log(
            f"Fatal error: 'brayns-emulator lacks {', '.join(missing)}: pip install 'airflow-brayns[emulator]''.",
            "critical",
        )
        raise SystemExit(1)


def _open_port(options: Options, generation: int, log: Log) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if generation > 1:  # the shared-port trap: a second service of the same user gets half of the clients
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        log(
            "Fatal error: 'Address already in use'." if error.errno == 98 else f"Fatal error: '{error.strerror}'.",
            "critical",
        )
        raise SystemExit(255 if generation == 1 else 1) from None
    listener.listen(64)
    return listener


def _load_plugins(options: Options, generation: int, faults: Faults, log: Log) -> list[str]:
    loaded = []
    for name in options.plugins:
        log(f"Loading plugin '{name}'.")
        time.sleep(faults.plugin_seconds)
        if name in PLUGIN_NAMES:
            loaded.append(name)
            log(f"Plugin '{name}' loaded.")
            continue
        trouble = (
            f"Error opening dynamic library: lib{name}.so: cannot open shared object file: No such file or directory"
        )
        if generation == 3:
            log(f"Fatal error: '{trouble}'.", "critical")
            raise SystemExit(1)
        log(trouble, "error")  # generations 1 and 2 go on without it
    return loaded


def _tls(options: Options) -> ssl.SSLContext | None:
    if not options.secure:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        options.certificate_file, options.private_key_file or None, options.private_key_passphrase or None
    )
    return context


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `brayns-emulator`."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        faults = Faults.from_environment()
    except ValueError as error:
        raise SystemExit(str(error)) from None
    generation = faults.version_numbers[0]
    if words[:1] == ["--version"]:
        print(f"Brayns version {faults.version} (emulated)")
        return
    if words[:1] == ["--help"]:
        print(
            f"braynsService {faults.version} (emulated); faults by the environment variable {VARIABLE}:\n{Faults.__doc__}"
        )
        return
    try:
        options = parse(words, generation)
    except UsageError as error:
        print(error, flush=True)
        raise SystemExit(1) from None
    _serve(options, generation, faults)


def _serve(options: Options, generation: int, faults: Faults) -> None:
    log = Log(options.log_level, generation)
    log(f"Brayns version {faults.version} (emulated)")
    log("Command line parameters values:")
    for name, value in vars(options).items():
        log(f"    - {name}: {value}")
    _check_libraries(log)
    time.sleep(faults.start_seconds)
    if faults.never_listens:
        threading.Event().wait()
    log("Initializing network manager.")
    listener = _open_port(options, generation, log)
    if faults.exit_after_seconds:
        threading.Timer(faults.exit_after_seconds, lambda: os._exit(faults.exit_code)).start()
    log("Loading plugins.")
    plugins = [*_load_plugins(options, generation, faults, log), *faults.more_plugins]
    log("Starting Brayns service.")
    state = BraynsState(
        faults.version_numbers, plugins, faults, Path(options.sandbox_path) if options.sandbox_path else None
    )
    from airflow_brayns.emulator.server import Server

    server = Server(listener, state, options.max_clients if generation > 1 else 64, _tls(options))
    state.quit = server.quit
    log("Brayns service started.")
    log("Starting server socket.")
    host, port = listener.getsockname()[:2]
    log(f"Rockets server running on {host}:{port}" if generation == 1 else f"Server started on '{host}:{port}'.")
    server.serve()
    if faults.crashes_at_quit():
        faults.segfault()
    os._exit(0)


if __name__ == "__main__":
    main()
