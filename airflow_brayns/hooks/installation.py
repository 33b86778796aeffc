"""The identity of this Airflow: its mark, which names its jobs, and its deployment, which tells two Airflows with one
mark apart.
"""

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

from airflow_brayns.errors import ConnectionLost
from airflow_brayns.hooks.supervisor import is_silent_about_variable

VARIABLE = "brayns_installation_id"
CANDIDATE = "brayns_installation_candidate"  # the Variable of a new mark until all first tasks have agreed on it
_DESCRIPTION = "Marks this Airflow's jobs on Brayns clusters; do not change."
_SETTLE_SECONDS = 2.0
_LOCAL = ("", "localhost", "127.0.0.1", "::1", "0.0.0.0")
_INSIDE = (
    ".svc",
    ".docker.internal",
    ".containers.internal",
    ".localhost",
    ".localdomain",
)  # names that are known inside a network of containers only, and mean something else in each


class _Variables(Protocol):
    """An interface: the place where Airflow's Variables are kept."""

    def get(self, key: str) -> str | None:
        """The value of a Variable; None where there is none."""

    def put(self, key: str, value: str) -> None:
        """Write the value of a Variable."""


class _InTask:
    """Variables in a task, which has them through Airflow's supervisor only."""

    def get(self, key: str) -> str | None:
        """See `_Variables.get`.

        :raises ConnectionLost: Airflow does not say whether there is one: what it has would be written over.
        """
        value = Variable.get(key, default=None)
        if value is None and is_silent_about_variable(key):
            raise ConnectionLost(f"Airflow's API server does not say whether the Variable {key} is there.")
        return str(value) if value else None

    def put(self, key: str, value: str) -> None:
        Variable.set(key, value, description=_DESCRIPTION)


class _InCommand:
    """Variables in `airflow brayns …`, which has no supervisor: they are read as everywhere, and written to the
    database.
    """

    def get(self, key: str) -> str | None:
        from airflow.models.variable import Variable as Stored

        value = Stored.get(key, default_var=None)
        return str(value) if value else None

    def put(self, key: str, value: str) -> None:
        from airflow.models.variable import Variable as Stored

        Stored.set(key, value, description=_DESCRIPTION)


def installation_id() -> str:
    """The mark of this Airflow: `[brayns] installation_id`, else one that is made once for its database and kept as a
    Variable.
    """
    configured = conf.get("brayns", "installation_id", fallback="")
    return str(configured) if configured else settle(_variables())


def _variables() -> _Variables:
    from airflow.sdk.execution_time import task_runner

    return _InTask() if getattr(task_runner, "SUPERVISOR_COMMS", None) is not None else _InCommand()


def settle(variables: _Variables, pause: float = _SETTLE_SECONDS) -> str:
    """The mark that is kept; where there is none yet, a new one on which all first tasks agree.

    A task can read Variables and write them, but not write one only if it is still as it was read (3.3.2), so whoever
    writes last wins. So a new mark is a candidate until it has been read twice, a pause apart: nobody overwrites a
    candidate that it has seen, so after the pause only a process that stood still for all of it, between its look and
    its word, could.
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
    """Tell whether 0.2.0 made a mark of the fernet key, which a shared secret or a clone gives to another Airflow, too."""
    key = conf.get("core", "fernet_key", fallback="")
    return bool(key) and mark == uuid.uuid5(uuid.NAMESPACE_OID, key).hex


def deployment() -> str:
    """The deployment of this Airflow, which tells two Airflows with the same mark apart, as the clone of a database has
    it; empty where nothing does.

    It is `[brayns] deployment`, as it was written; else the place of the API server, as host and port, and a hash. It
    is the same in all parts of one Airflow, and no secret. A name that means something in its own network only, such as
    a container's or a Kubernetes service's, tells nothing: a clone's is the same. An API server that is reached as
    `localhost` serves one machine, so that machine and `AIRFLOW_HOME` belong to it, unless a container's engine made up
    the machine's name: the next container has another one.
    """
    if configured := str(conf.get("brayns", "deployment", fallback="") or ""):
        return _plain(configured)
    places = [
        urlsplit(str(conf.get(section, option, fallback="") or ""))
        for section, option in (("api", "base_url"), ("core", "execution_api_server_url"))
    ]
    for place in places:
        if _is_known_everywhere(place.hostname or ""):
            shown = place.netloc.rpartition("@")[2]
            return _hashed(shown, [shown, place.path.rstrip("/")])
    machine = socket.gethostname()
    if any((place.hostname or "") not in _LOCAL for place in places) or _is_made_up(machine):
        return ""
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return _hashed(machine, [machine, str(home.resolve())])


def _is_known_everywhere(host: str) -> bool:
    """Tell whether a host is the same machine in every network, as a full name or an address is."""
    name = host.rstrip(".").lower()
    if name in _LOCAL or ("." not in name and ":" not in name):
        return False
    return not name.endswith(_INSIDE) and ".svc." not in name


def _is_made_up(machine: str) -> bool:
    """Tell whether a machine's name is a container's, which its engine made up."""
    return bool(re.fullmatch("[0-9a-f]{12}", machine)) or "KUBERNETES_SERVICE_HOST" in os.environ


def _hashed(shown: str, told: list[str]) -> str:
    digest = hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_plain(shown)}-{digest}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:-]+", "_", text)[:100]
