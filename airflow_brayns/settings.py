"""The fields of a `brayns_cluster` connection, each of which a task can override."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_brayns.brayns.command import ServiceSpec, check_port
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
        except (ValueError, SyntaxError):
            continue
    return text


def _from_json(value: Any) -> Any:
    """Lists and dicts may come as text from a form or a connection's URI."""
    return literal(value) if isinstance(value, str) and value.strip()[:1] in ("[", "{") else value


def _lines(value: Any) -> Any:
    return "\n".join(value) if isinstance(value, list | tuple) else value


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]


class ClusterSettings(BaseModel):
    """Everything a `brayns_cluster` connection can say. `None` means the site's or the package's default.

    :param scheduler: `slurm`, or `local` for this machine.
    :param ssh_conn_id: SSH connection to a login node; None to run the Slurm commands here.
    :param account: and ``partition``, ``qos``, ``constraint``, ``reservation``, ``gres``, ``cpus_per_task``, ``memory``,
        ``exclusive``, ``time_limit``, ``sbatch_options``: see `AllocationRequest`.
    :param executable: and ``setup``, ``environment``, ``container``, ``generation``, ``log_level``, ``max_clients``, ``port``: see
        `ServiceSpec`.
    :param node_suffix: what to put behind a node's name to reach it (`.bbp.example.org`).
    :param route: `direct` from Airflow to the node; `ssh` through the login node.
    :param state_dir: folder on the cluster's file system that the allocations are described in.
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
    route: Literal["direct", "ssh"] = "direct"
    state_dir: str = "~/.airflow-brayns"
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
            values["generation"] = int(values["generation"]) if values["generation"].isdigit() else values["generation"]
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
        if self.route == "ssh" and not self.ssh_conn_id:
            raise InvalidSetting("route", "'ssh' needs an ssh_conn_id to go through")
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
        if self.scheduler == "local" and not (self.setup or self.container):
            # The login shell on the "node" has a PATH of its own; here the worker's is what its owner means.
            executable = shutil.which(executable) or executable
        return ServiceSpec(
            plugins=plugins,
            executable=executable,
            generation=self.generation,
            host="127.0.0.1" if self.scheduler == "local" else "0.0.0.0",
            port=self.port,
            max_clients=self.max_clients,
            log_level=self.log_level,
            setup=self.setup,
            environment=self.environment,
            container=self.container,
        )

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
