"""Which Airflow this is: its mark, which names its jobs, and what tells two Airflows with one mark apart."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import uuid
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow.sdk import Variable, conf

VARIABLE = "brayns_installation_id"
CANDIDATE = "brayns_installation_candidate"  # until two first tasks have agreed
_DESCRIPTION = "Marks this Airflow's jobs on Brayns clusters; do not change."
_SETTLE_SECONDS = 2.0
_LOCAL = ("", "localhost", "127.0.0.1", "::1", "0.0.0.0")


class _Variables(Protocol):
    """Where Variables are kept."""

    def get(self, key: str) -> str | None:
        """Its value; None where there is none."""

    def put(self, key: str, value: str) -> None:
        """Write it."""


class _InTask:
    """Through Airflow's supervisor: all that a task has."""

    def get(self, key: str) -> str | None:
        value = Variable.get(key, default=None)
        return str(value) if value else None

    def put(self, key: str, value: str) -> None:
        Variable.set(key, value, description=_DESCRIPTION)


class _InCommand:
    """For `airflow brayns …`, where no supervisor is: Variables are read as everywhere, and written to the database."""

    def get(self, key: str) -> str | None:
        from airflow.models.variable import Variable as Stored

        value = Stored.get(key, default_var=None)
        return str(value) if value else None

    def put(self, key: str, value: str) -> None:
        from airflow.models.variable import Variable as Stored

        Stored.set(key, value, description=_DESCRIPTION)


def installation_id() -> str:
    """This Airflow's mark: `[brayns] installation_id`, else one that is made once for its database and kept as a Variable."""
    configured = conf.get("brayns", "installation_id", fallback="")
    return str(configured) if configured else settle(_variables())


def _variables() -> _Variables:
    from airflow.sdk.execution_time import task_runner

    return _InTask() if getattr(task_runner, "SUPERVISOR_COMMS", None) is not None else _InCommand()


def settle(variables: _Variables, pause: float = _SETTLE_SECONDS) -> str:
    """The mark that is kept, or a new one, on which all first tasks agree.

    A task can read and write Variables, but not the one only if the other (3.3.2): who writes last wins. So a new mark is a
    candidate until it has been read twice, a pause apart: nobody overwrites a candidate that it has seen, so after the pause
    only a process that stood still for all of it, between its look and its word, could.
    """
    if kept := variables.get(VARIABLE):
        return kept
    seen = variables.get(CANDIDATE)
    if not seen:
        seen = uuid.uuid4().hex
        variables.put(CANDIDATE, seen)
    while True:
        time.sleep(pause)
        if kept := variables.get(VARIABLE):
            return kept
        if (now := variables.get(CANDIDATE)) == seen:
            break
        seen = now or seen
    variables.put(VARIABLE, seen)
    return variables.get(VARIABLE) or seen


def made_of_shared_key(mark: str) -> bool:
    """Whether a mark was made by 0.2.0 of the fernet key, which a shared secret or a clone gives to another Airflow, too."""
    key = conf.get("core", "fernet_key", fallback="")
    return bool(key) and mark == uuid.uuid5(uuid.NAMESPACE_OID, key).hex


def deployment() -> str:
    """What tells two Airflows apart whose marks agree, as the clone of a database's do: where their API servers are.

    The same in all parts of one Airflow, and no secret: host and port, and a hash. An API server that is reached as `localhost`
    serves one machine, so that machine and `AIRFLOW_HOME` belong to it.
    """
    for section, option in (("api", "base_url"), ("core", "execution_api_server_url")):
        part = urlsplit(str(conf.get(section, option, fallback="") or ""))
        if (part.hostname or "") not in _LOCAL:
            shown, told = part.netloc.rpartition("@")[2], [part.netloc.rpartition("@")[2], part.path.rstrip("/")]
            break
    else:
        home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
        shown, told = socket.gethostname(), [socket.gethostname(), str(home.resolve())]
    digest = hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9_.:-]+', '_', shown)[:100]}-{digest}"
