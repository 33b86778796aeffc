"""The fields of a `brayns_cluster` connection, each of which a task can override."""

from __future__ import annotations

import ast
import json
import re
import shutil
import ssl
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_brayns.brayns.command import ServiceSpec, check_port
from airflow_brayns.brayns.tls import client_context
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.errors import InvalidSetting

CONNECTION_TYPE = "brayns_cluster"
DEFAULT_CONN_ID = "brayns_default"


def literal(text: str) -> Any:
    """A list or dict written as JSON, or as Python prints it when a template is rendered to text; else the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        # TypeError: a set of lists, which is no value; the last two: nested too deep.
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def _from_json(value: Any) -> Any:
    """Lists and dicts may come as text from a form or a connection's URI."""
    return literal(value) if isinstance(value, str) and value.strip()[:1] in ("[", "{") else value


def _lines(value: Any) -> Any:
    is_lines = isinstance(value, list | tuple) and all(isinstance(line, str) for line in value)
    return "\n".join(value) if is_lines else value


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=1e9, allow_inf_nan=False)]


class ClusterSettings(BaseModel):
    """Everything a `brayns_cluster` connection can say. `None` means the site's or the package's default.

    :param scheduler: `slurm`, or `local` for this machine.
    :param ssh_conn_id: SSH connection to a login node; None to run the Slurm commands here.
    :param account: and ``partition``, ``qos``, ``constraint``, ``reservation``, ``gres``, ``cpus_per_task``, ``memory``,
        ``exclusive``, ``time_limit``, ``sbatch_options``: see `AllocationRequest`.
    :param executable: and ``setup``, ``environment``, ``container``, ``generation``, ``log_level``, ``max_clients``, ``port``: see
        `ServiceSpec`.
    :param node_suffix: what to put behind a node's name to reach it (`.bbp.example.org`).
    :param route: `direct` from Airflow to the node; `ssh` through the login node; `node` by a second SSH hop into the node
        itself, where the service listens on loopback only.
    :param node_known_hosts: with `route: node`: file on the Airflow side that holds the nodes' host keys; None for the one of
        the SSH connection.
    :param tls: `off`; `allocation` for a certificate that is made for each allocation and pinned by its clients; `given` for
        files that are on the nodes. It hides what passes and proves the server; it keeps nobody out.
    :param tls_certificate_file: and ``tls_private_key_file``: with `given`, PEM files as the nodes see them; the key without a
        passphrase, which braynsService would log.
    :param tls_ca: with `given`: who signed the certificate, a PEM file on the Airflow side or its text; None for those that the
        system trusts. The certificate must be for the node's name with its suffix.
    :param state_dir: folder on the cluster's file system that the allocations are described in. It must be yours alone: it is
        made with mode 0700, and one that others may write is refused.
    :param state_dir_parents: `private`: a folder above it that others own or may write (root, your own group and sticky folders
        such as /tmp aside) is refused; `shared` where the site's project folders are so on purpose: what is run from there
        is then proved by its digest, which goes with the job.
    :param poll_interval: seconds between two looks while something is awaited.
    :param idle_limit: seconds without use after which an allocation ends by itself.
    :param start_timeout: seconds from the job's start to a usable service.
    :param queue_timeout: seconds that the job may wait in the queue; None for no limit.
    :param packing: `one_job` for all nodes together, `job_per_node` for each as it comes free.
    :param min_ready: how many services must be usable before the hand-over; None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    scheduler: Literal["slurm", "local"] = "slurm"
    ssh_conn_id: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    memory: str | int | None = None
    exclusive: bool = False
    time_limit: timedelta | str | int | None = None
    sbatch_options: Annotated[list[str] | str, BeforeValidator(_from_json)] = Field(default_factory=list)
    executable: str = "braynsService"
    setup: Annotated[str, BeforeValidator(_lines)] = ""
    environment: Annotated[dict[str, str], BeforeValidator(_from_json)] = Field(default_factory=dict)
    container: str = ""
    generation: Literal[1, 2, 3] | None = None
    log_level: str = "info"
    max_clients: int = 4
    port: Annotated[str, BeforeValidator(check_port)] = "0"
    node_suffix: str = Field(default="", pattern=r"^[A-Za-z0-9.-]*$")
    route: Literal["direct", "ssh", "node"] = "direct"
    node_known_hosts: str | None = None
    tls: Literal["off", "allocation", "given"] = "off"
    tls_certificate_file: str = ""
    tls_private_key_file: str = ""
    tls_ca: str | None = None
    state_dir: str = "~/.airflow-brayns"
    state_dir_parents: Literal["private", "shared"] = "private"
    poll_interval: Seconds = 5.0
    idle_limit: Seconds = 1800.0
    start_timeout: Seconds = 600.0
    queue_timeout: Seconds | None = None
    packing: Literal["one_job", "job_per_node"] = "one_job"
    min_ready: int | None = Field(default=None, ge=1)

    @classmethod
    def read(cls, extras: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> ClusterSettings:
        """A connection's extras with a task's overrides on top; empty values mean 'not set'.

        :raises InvalidSetting: for an unknown key (listing the known ones) or a value that cannot work, naming the field.
        """
        values = {key: value for key, value in extras.items() if value not in (None, "")}
        values |= {key: value for key, value in (overrides or {}).items() if value not in (None, "")}
        if isinstance(values.get("generation"), str):
            values["generation"] = (
                int(values["generation"]) if values["generation"] in ("1", "2", "3") else values["generation"]
            )
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise InvalidSetting(
                unknown[0],
                f"is not a field of a {CONNECTION_TYPE} connection. Known: {', '.join(sorted(cls.model_fields))}.",
            )
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            context = first.get("ctx", {}).get("error")
            if isinstance(context, InvalidSetting):
                raise context from None
            raise InvalidSetting(
                ".".join(str(part) for part in first["loc"][:1]), f"{first['msg']} (it is {first['input']!r})"
            ) from None
        settings.check()
        return settings

    def check(self) -> None:
        """What no single field can tell."""
        self.request(1)
        self.service()
        self.keeper()
        if self.route in ("ssh", "node") and not self.ssh_conn_id:
            raise InvalidSetting("route", f"{self.route!r} needs an ssh_conn_id to go through")
        files = self.tls_certificate_file and self.tls_private_key_file
        if self.tls == "given" and not files:
            raise InvalidSetting(
                "tls", "'given' needs tls_certificate_file and tls_private_key_file, as paths on the nodes"
            )
        if self.tls != "given" and (self.tls_certificate_file or self.tls_private_key_file or self.tls_ca):
            raise InvalidSetting(
                "tls",
                f"is {self.tls!r}, so tls_certificate_file, tls_private_key_file and tls_ca mean nothing; leave them out, or use 'given'",
            )
        self.authority()
        if self.scheduler == "local" and self.ssh_conn_id:
            raise InvalidSetting("ssh_conn_id", "has no meaning with scheduler 'local'; leave one of them out")

    def request(self, nodes: int) -> AllocationRequest:
        """What is asked of the scheduler."""
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
        """How a service is started."""
        executable = self.executable
        key, certificate = self.tls_private_key_file, self.tls_certificate_file
        if self.tls == "allocation":
            key, certificate = "$AB_FOLDER/tls/key.pem", "$AB_FOLDER/tls/cert.pem"
        if self.scheduler == "local" and not (self.setup or self.container):
            # The login shell on the "node" has a PATH of its own; here the worker's is what its owner means.
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
        """PEM of `tls_ca`; empty for those that the system trusts.

        :raises InvalidSetting: it cannot be read.
        """
        if not self.tls_ca or "-----BEGIN" in self.tls_ca:
            return self.tls_ca or ""
        try:
            return Path(self.tls_ca).expanduser().read_text()
        except (OSError, ValueError) as error:
            raise InvalidSetting("tls_ca", f"{self.tls_ca} cannot be read on the Airflow side: {error}") from None

    def client_context(self, name: str, address: str, certificate: str) -> ssl.SSLContext | None:
        """What a client of a service needs to speak TLS with it, and to know it; None where it speaks none.

        :param name: of its allocation.
        :param address: of its node.
        :param certificate: of its allocation, PEM.
        :raises InvalidSetting: there is no certificate to know it by.
        """
        if self.tls == "off":
            return None
        if self.tls == "allocation" and not certificate:
            raise InvalidSetting(
                "tls",
                f"the allocation {name or 'at ' + address} has no certificate of its own: it was made with another setting of tls",
            )
        authority, server_name = (certificate, name) if self.tls == "allocation" else (self.authority(), address)
        try:
            return client_context(authority, server_name)
        except ValueError as error:
            raise InvalidSetting("tls_ca" if self.tls == "given" else "tls", str(error)) from None

    def who_can_reach(self) -> str:
        """One sentence for the log: braynsService has no login."""
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
        """How long an allocation holds on by itself."""
        return KeeperSettings(idle_limit=max(1, int(self.idle_limit)), start_timeout=max(1, int(self.start_timeout)))


def embedded_default() -> tuple[dict[str, Any], str]:
    """The extras used where `brayns_default` is not defined, and a sentence for the log.

    The braynsService on the PATH if there is one, else the emulator that comes with this package.
    """
    where = f"No connection {DEFAULT_CONN_ID!r} is defined: services run on this machine"
    if found := shutil.which("braynsService"):
        return {"scheduler": "local", "executable": found}, f"{where}, with {found}."
    emulator = Path(sys.executable).parent / "brayns-emulator"
    program = str(emulator) if emulator.exists() else shutil.which("brayns-emulator") or "brayns-emulator"
    text = f"{where}, with the emulator {program}, since no braynsService is on the PATH."
    return {"scheduler": "local", "executable": program}, text


def is_name(text: str) -> bool:
    """Whether a text is an allocation's name, or the part that a booking's allocations share."""
    return bool(re.fullmatch(r"ab-[0-9a-f]{12,40}", text))
