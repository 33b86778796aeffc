"""The shell scripts that run on login machines, in jobs and on nodes, and which of their files each command is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

# Each command is complete: its files call functions of these files only (a test reads every call).
COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # on the login machine
        "submit": (
            "common",
            "login",
            "room",
            "queue",
            "jobs",
            "trust",
            "whose",
            "finished",
            "incarnations",
            "fold",
            "sweep",
            "failing",
            "apart",
            "sbatch",
            "submit",
        ),
        "look": ("common", "login", "queue", "finished", "look", "waits", "logs"),
        "find": ("common", "login", "queue", "step", "finished", "look", "find"),
        "lease": ("common", "login", "room", "whose", "lease"),
        "release": ("common", "login", "queue", "jobs", "whose", "finished", "release"),
        "services": ("common", "login", "room", "queue", "jobs", "trust", "whose", "finished", "failures", "services"),
        "extend": ("common", "login", "queue", "jobs", "whose", "finished", "incarnations", "extend"),
        "files": ("common", "login", "room", "trust", "files"),
        "inspect": ("common", "login", "room", "queue", "trust", "finished", "failing", "apart", "inspect"),
        "step": ("common", "login", "queue", "step"),
        # the job's script, and each node's wrapper
        "keeper": (
            "common",
            "node",
            "sockets",
            "family",
            "proof",
            "port",
            "start",
            "wrapper",
            "failures",
            "children",
            "keeper",
        ),
        # in a step on a node
        "held": ("common", "sockets", "family"),
        # below the scripts of other rooms
        "others": ("common",),
    }
)

_HEAD = re.compile(r"^([a-z_]+\(\) \{) # .*")  # a function's first line, and what is said of it


@cache
def script_of(command: str) -> str:
    """The script of a command: the functions of its files, one file after the other.

    :param command: one of `COMMANDS`.
    """
    return "".join(map(file_text if command == "keeper" else _sent, COMMANDS[command]))


def _sent(name: str) -> str:
    """The text of a file without what only its readers need: a command sends it each time, while a keeper's lies in a folder."""
    lines = (_HEAD.sub(r"\1", line.lstrip()) for line in file_text(name).splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


@cache
def file_text(name: str) -> str:
    """The text of one of this folder's files, named without its `.sh`."""
    return (Path(__file__).parent / f"{name}.sh").read_text()
