"""The fields of a `brayns_cluster` connection, each of which a task can override."""

from __future__ import annotations

import re
import shutil
import ssl
import sys
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from airflow_brayns.brayns.command import ServiceSpec, check_port
from airflow_brayns.brayns.tls import client_context
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest, minutes_of
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.errors.plain import shown
from airflow_brayns.services.form import Needed, needed_for, parameters_of, setting
from airflow_brayns.services.literal import literal as literal

CONNECTION_TYPE = "brayns_cluster"
DEFAULT_CONN_ID = "brayns_default"


def _from_json(value: Any) -> Any:
    """Read a list or dict that comes as text from a form or a connection's URI."""
    return literal(value) if isinstance(value, str) and value.strip()[:1] in ("[", "{") else value


def _lines(value: Any) -> Any:
    is_lines = isinstance(value, list | tuple) and all(isinstance(line, str) for line in value)
    text = "\n".join(value) if is_lines else value
    # lines of Windows: bash takes the carriage return for a part of the last word
    return re.sub("\r+\n|\r+$", "\n", text) if isinstance(text, str) else text


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=1e9, allow_inf_nan=False)]


class ClusterSettings(BaseModel):
    """The fields of a `brayns_cluster` connection. `None` means the site's or the package's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, defer_build=True)

    scheduler: Literal["slurm", "local"] = setting(
        "Scheduler", "Where nodes come from: a Slurm cluster, or this machine.", "slurm", needed=Needed.TO_FIND
    )
    ssh_conn_id: str | None = setting(
        "SSH connection",
        "Connection of type ssh to a login node; empty to run the Slurm commands here.",
        needed=Needed.TO_FIND,
    )
    account: str | None = setting("Account", "Slurm account to charge (sbatch --account).")
    partition: str | None = setting("Partition", "Slurm partition (--partition); empty for the cluster's default.")
    qos: str | None = setting("QOS", "Slurm quality of service (--qos).")
    constraint: str | None = setting("Constraint", "Features the nodes must have (--constraint), such as cpu.")
    reservation: str | None = setting("Reservation", "Slurm reservation (--reservation).")
    gres: str | None = setting("Generic resources", "Such as gpu:1 (--gres).")
    cpus_per_task: int | None = setting("CPUs", "CPUs on each node (-c).", form={"minimum": 1})
    memory: str | int | None = setting("Memory", "Memory of each node (--mem): 4G, or 0 for all of it.")
    exclusive: bool = setting("Exclusive", "No other jobs on the nodes (--exclusive).", False)
    time_limit: timedelta | str | int | None = setting(
        "Time limit",
        "How long at most, in Slurm's spelling: 2:00:00 or 1-12:00:00 (--time); empty for the partition's default.",
    )
    sbatch_options: Annotated[list[str] | str, BeforeValidator(_from_json)] = setting(
        "sbatch options",
        "Further options, each word as typed, such as --licenses=brayns, or one text that is split as a shell splits it. Those that "
        "the keeper owns are refused.",
        [],
    )
    executable: str = setting(
        "Executable", "Name or path of braynsService on the nodes.", "braynsService", form={"default": None}
    )
    setup: Annotated[str, BeforeValidator(_lines)] = setting(
        "Setup",
        "Shell lines run on the node before it, such as module load brayns. Trusted code.",
        "",
        code=True,
        form={"format": "multiline"},
    )
    environment: Annotated[dict[str, str], BeforeValidator(_from_json)] = setting(
        "Environment", "Variables for the service, as JSON.", {}
    )
    container: str = setting(
        "Container",
        "Words before the executable, such as apptainer exec image.sif. Trusted code.",
        "",
        code=True,
    )
    generation: Literal[1, 2, 3] | None = setting(
        "Generation",
        "Command line of braynsService: 1, 2 or 3; empty to ask its --version.",
        form={"values_display": {"None": "as its --version says"}},
    )
    log_level: str = setting(
        "Log level",
        "Of braynsService (generation 3); below info its port is not told.",
        "info",
        form={"enum": ["trace", "debug", "info"]},
    )
    max_clients: int = setting(
        "Clients", "How many clients a service serves at once (generations 2 and 3).", 4, form={"minimum": 1}
    )
    port: Annotated[str, BeforeValidator(check_port)] = setting(
        "Port", "0: the kernel picks; a number; or from-to.", "0"
    )
    node_suffix: str = setting(
        "Node suffix",
        "Put behind a node's name to reach it, such as .bbp.example.org.",
        "",
        needed=Needed.TO_CONNECT,
        pattern=r"^[A-Za-z0-9.-]*$",
    )
    route: Literal["direct", "ssh", "node"] = setting(
        "Route",
        "direct from Airflow to the node, ssh through the login node, or node: a second SSH hop into the node, the service on "
        "its loopback only.",
        "direct",
        needed=Needed.TO_WAIT,
    )
    node_known_hosts: str | None = setting(
        "Nodes' host keys",
        "For route node: file on the Airflow side that holds them; empty for the SSH connection's own.",
        needed=Needed.TO_CONNECT,
    )
    tls: Literal["off", "allocation", "given"] = setting(
        "TLS",
        "off; allocation: a certificate that is made for each allocation and pinned by its clients; given: files on the nodes. "
        "It hides what passes and proves the server; it keeps nobody out.",
        "off",
        needed=Needed.TO_WAIT,
    )
    tls_certificate_file: str = setting(
        "TLS certificate",
        "With given: PEM file on the nodes, for the node's name with its suffix.",
        "",
        needed=Needed.TO_WAIT,
    )
    tls_private_key_file: str = setting(
        "TLS key",
        "With given: PEM file on the nodes, without a passphrase, which braynsService would log.",
        "",
        needed=Needed.TO_WAIT,
    )
    tls_ca: str | None = setting(
        "TLS authority",
        "With given: who signed it; PEM file on the Airflow side, or its text; empty for those that the system trusts.",
        needed=Needed.TO_WAIT,
        form={"format": "multiline"},
    )
    state_dir: str = setting(
        "State folder",
        "On the cluster's file system, where the allocations are described. Yours alone: one that others may write is refused.",
        "~/.airflow-brayns",
        needed=Needed.TO_FIND,
    )
    state_dir_parents: Literal["private", "shared"] = setting(
        "Folders above it",
        "private: one that others may write is refused; shared: the site's project folders are so on purpose, and what is run "
        "from there is proved by its digest.",
        "private",
        needed=Needed.TO_CONNECT,
    )
    poll_interval: Seconds = setting(
        "Poll interval",
        "Seconds from one look to the next while something is awaited; news comes earlier.",
        5.0,
        needed=Needed.TO_CONNECT,
    )
    idle_limit: Seconds = setting(
        "Idle limit", "Seconds without use after which an allocation ends by itself.", 1800.0, needed=Needed.TO_WAIT
    )
    start_timeout: Seconds = setting(
        "Start time-out", "Seconds from the job's start to a usable service.", 600.0, needed=Needed.TO_WAIT
    )
    queue_timeout: Seconds | None = setting(
        "Queue time-out", "Seconds a job may wait in the queue; empty for no limit.", needed=Needed.TO_WAIT
    )
    packing: Literal["one_job", "job_per_node"] = setting(
        "Packing", "one_job: all nodes together; job_per_node: each as it comes free.", "one_job"
    )
    min_ready: int | None = setting(
        "Ready at least",
        "How many services must be usable before the hand-over; empty for all.",
        needed=Needed.TO_WAIT,
        form={"minimum": 1},
        ge=1,
    )

    @classmethod
    def read(cls, extras: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> ClusterSettings:
        """Read a connection's extras with a task's overrides on top; empty values mean 'not set'.

        :raises InvalidSetting: a key is unknown (the error lists the known ones), or a value cannot work (the error
            names the field).
        """
        values = {key: value for key, value in extras.items() if value not in (None, "")}
        if "time_limit" in values:  # an override that is a float is a trigger's, in seconds
            values["time_limit"] = minutes_of(values["time_limit"])
        values |= {key: value for key, value in (overrides or {}).items() if value not in (None, "")}
        if isinstance(values.get("generation"), str):
            values["generation"] = (
                int(values["generation"]) if values["generation"] in ("1", "2", "3") else values["generation"]
            )
        for name in set(values) & set(cls.model_fields):
            if isinstance(values[name], bool) and cls.model_fields[name].annotation is not bool:
                raise InvalidSetting(
                    name, f"must not be {str(values[name]).lower()}: {cls.model_fields[name].description}"
                )
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            near = get_close_matches(unknown[0], cls.model_fields, 1)
            raise InvalidSetting(
                unknown[0],
                f"It is not a field of a {CONNECTION_TYPE} connection. Known: {', '.join(sorted(cls.model_fields))}.",
                remedy=f"correct its name: {' or '.join(near)}?" if near else "correct its name, or leave it out.",
            )
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            context = first.get("ctx", {}).get("error")
            if isinstance(context, InvalidSetting):
                raise context from None
            raise InvalidSetting(
                ".".join(str(part) for part in first["loc"][:1]), f"{first['msg']} (it is {shown(first['input'])})"
            ) from None
        settings.check()
        return settings

    def check(self) -> None:
        """Check what no single field can tell.

        :raises InvalidSetting: fields do not go together; the error names the one to mend.
        """
        self.request(1)
        self.service()
        self.keeper()
        if self.route in ("ssh", "node") and not self.ssh_conn_id:
            raise InvalidSetting(
                "route",
                f"{self.route!r} needs an ssh_conn_id to go through.",
                remedy="set ssh_conn_id, or route to 'direct'.",
            )
        files = self.tls_certificate_file and self.tls_private_key_file
        if self.tls == "given" and not files:
            raise InvalidSetting(
                "tls",
                "'given' needs them.",
                remedy="give tls_certificate_file and tls_private_key_file, as paths on the nodes.",
            )
        if self.tls != "given" and (self.tls_certificate_file or self.tls_private_key_file or self.tls_ca):
            raise InvalidSetting(
                "tls",
                f"It is {self.tls!r}, so they mean nothing.",
                remedy="leave tls_certificate_file, tls_private_key_file and tls_ca out, or use 'given'.",
            )
        self.authority()
        if self.scheduler == "local" and self.ssh_conn_id:
            raise InvalidSetting(
                "ssh_conn_id", "It has no meaning with scheduler 'local'.", remedy="leave one of them out."
            )

    def request(self, nodes: int) -> AllocationRequest:
        """The request for so many nodes, as the scheduler is asked."""
        return AllocationRequest(
            nodes=nodes,
            account=self.account,
            partition=self.partition,
            cpus_per_task=self.cpus_per_task,
            memory=self.memory,
            exclusive=self.exclusive,
            constraint=self.constraint,
            time_limit=self.time_limit,
            qos=self.qos,
            reservation=self.reservation,
            gres=self.gres,
            sbatch_options=self.sbatch_options,
        )

    def service(self, plugins: tuple[str, ...] = ()) -> ServiceSpec:
        """The way in which a service is started with some plugins."""
        executable = self.executable
        key, certificate = self.tls_private_key_file, self.tls_certificate_file
        if self.tls == "allocation":
            key, certificate = "$AB_FOLDER/tls/key.pem", "$AB_FOLDER/tls/cert.pem"
        if self.scheduler == "local" and not (self.setup or self.container):
            # The login shell on the "node" has a PATH of its own; on the local cluster its owner means the worker's.
            executable = shutil.which(executable) or executable
        return ServiceSpec(
            plugins=plugins,
            executable=executable,
            generation=self.generation,
            host="127.0.0.1" if self.scheduler == "local" or self.route == "node" else "0.0.0.0",
            port=self.port,
            max_clients=self.max_clients,
            log_level=self.log_level,
            setup=self.setup,
            environment=self.environment,
            container=self.container,
            certificate_file=certificate,
            private_key_file=key,
        )

    def authority(self) -> str:
        """The certificates of `tls_ca`, PEM; empty for those that the system trusts.

        :raises InvalidSetting: the file cannot be read.
        """
        if not self.tls_ca or "-----BEGIN" in self.tls_ca:
            return self.tls_ca or ""
        try:
            return Path(self.tls_ca).expanduser().read_text()
        except (OSError, ValueError) as error:
            raise InvalidSetting(
                "tls_ca",
                f"{self.tls_ca} cannot be read on the Airflow side: {error}",
                remedy="give a file that worker and triggerer can read.",
            ) from None

    def client_context(self, name: str, address: str, certificate: str) -> ssl.SSLContext | None:
        """The TLS context by which a client speaks with a service and knows it; None where services speak no TLS.

        :param name: the name of its allocation.
        :param address: the address of its node.
        :param certificate: the certificate of its allocation, PEM.
        :raises InvalidSetting: there is no certificate to know the service by.
        """
        if self.tls == "off":
            return None
        if self.tls == "allocation" and not certificate:
            raise InvalidSetting(
                "tls",
                f"the allocation {name or 'at ' + address} has no certificate of its own: it was made with another setting of tls.",
                remedy="set it as it was when the nodes were allocated, or allocate anew.",
            )
        authority, server_name = (certificate, name) if self.tls == "allocation" else (self.authority(), address)
        try:
            return client_context(authority, server_name)
        except ValueError as error:
            raise InvalidSetting("tls_ca" if self.tls == "given" else "tls", str(error)) from None

    def who_can_reach(self) -> str:
        """A sentence for the log that says who can reach a service, since braynsService has no login."""
        if self.scheduler == "local":
            who = "it listens on this machine's loopback: everybody on this machine can reach it"
        elif self.route == "node" and self.exclusive:
            who = "it listens on its node's loopback, and no other job runs there: nobody else on the cluster can reach it"
        elif self.route == "node":
            who = (
                "it listens on its node's loopback, which everybody whose job runs on the same node can reach; "
                "`exclusive` would keep them away"
            )
        else:
            who = "it listens on its node's network: everybody on the cluster can reach it; `route: node` would keep them away"
        return f"braynsService has no login: {who}."

    def keeper(self) -> KeeperSettings:
        """The limits after which a keeper ends an allocation by itself."""
        return KeeperSettings(idle_limit=max(1, int(self.idle_limit)), start_timeout=max(1, int(self.start_timeout)))


FIELDS: Mapping[str, FieldInfo] = ClusterSettings.model_fields
# What the connection's form folds; the rest is what most sites set.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "What is asked of Slurm": ("qos", "constraint", "reservation", "gres", "cpus_per_task", "memory", "exclusive", "time_limit", "sbatch_options", "packing"),
    "The service": ("environment", "container", "generation", "log_level", "max_clients", "port"),
    "The way there": ("node_suffix", "node_known_hosts", "tls", "tls_certificate_file", "tls_private_key_file", "tls_ca"),
    "The state folder": ("state_dir", "state_dir_parents"),
    "Waiting": ("poll_interval", "idle_limit", "start_timeout", "queue_timeout", "min_ready"),
}  # fmt: skip
FINDING = needed_for(FIELDS, Needed.TO_FIND)
CONNECTING = needed_for(FIELDS, Needed.TO_CONNECT)
WAITING = needed_for(FIELDS, Needed.TO_WAIT)
ClusterSettings.__doc__ = f"{ClusterSettings.__doc__}\n\n{parameters_of(FIELDS)}\n    "


def embedded_default() -> tuple[dict[str, Any], str]:
    """The extras that are used where `brayns_default` is not defined, and a sentence for the log.

    They name the braynsService on the PATH if there is one, else the emulator that comes with this package.
    """
    where = f"No connection {DEFAULT_CONN_ID!r} is defined: services run on this machine"
    if found := shutil.which("braynsService"):
        return {"scheduler": "local", "executable": found}, f"{where}, with {found}."
    emulator = Path(sys.executable).parent / "brayns-emulator"
    program = str(emulator) if emulator.exists() else shutil.which("brayns-emulator") or "brayns-emulator"
    text = f"{where}, with the emulator {program}, since no braynsService is on the PATH."
    return {"scheduler": "local", "executable": program}, text


def is_name(text: str) -> bool:
    """Tell whether a text is an allocation's name, or the part that the names of a booking's allocations share."""
    return bool(re.fullmatch(r"ab-[0-9a-f]{12,40}", text))
