"""What Slurm and this machine have in common: submit, look, release. Everything that is said goes through one shell."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from airflow_brayns.cluster import protocol
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, is_idle_end
from airflow_brayns.cluster.answers import (
    Released,
    check_folder,
    check_ours,
    check_released,
    check_wanted,
    decode,
    read_jobs,
    read_status,
    read_statuses,
    whole,
)
from airflow_brayns.cluster.failing import FailingNode, Failure, read_failing
from airflow_brayns.cluster.finding import Finding, read_finding
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.location import Host, Listener, best, nodes_of, read_listeners
from airflow_brayns.cluster.protocol import ANSWERS
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.sbatch_errors import refusal
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import LocalShell, Shell, quote
from airflow_brayns.cluster.submission import (
    NAME,
    SERVICE,
    TOKEN,
    ServiceCommand,
    TlsFiles,
    check,
    fill,
    proof,
    proofs,
    read_command,
    submission,
    wanted,
)
from airflow_brayns.cluster.waiter import Waiter, question
from airflow_brayns.errors import (
    AllocationLost,
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    SubmissionUnsure,
)

COMMAND_SECONDS = 60.0


class Cluster:
    """Where nodes come from.

    :param shell: where the scheduler's commands are run.
    :param state_dir: the folder on the cluster's file system; a leading `~` is the remote home. It is the user's alone.
    :param shared_parents: whether others may write folders above it, so that it could be exchanged: nothing is run from there
        that is not proved by its digest.
    :param deployment: what tells this Airflow from another one with its mark: what that one asked for is neither adopted, nor
        changed, nor given back. Empty where nothing does.
    """

    scheduler: ClassVar[str]

    def __init__(
        self,
        shell: Shell,
        *,
        state_dir: str = "~/.airflow-brayns",
        shared_parents: bool = False,
        deployment: str = "",
    ) -> None:
        if not state_dir or not state_dir.isprintable() or len(state_dir) > 1000:
            raise InvalidSetting("state_dir", f"{state_dir[:200]!r} is none.", remedy="give a folder on the cluster.")
        state_dir = re.sub(r"^\$(HOME|\{HOME\})(?=/|$)", "~", state_dir)
        if re.match(r"~[^/]", state_dir) or re.search(r"[$`](?!USER\b|\{USER\})", state_dir):
            raise InvalidSetting(
                "state_dir",
                f"{state_dir[:200]!r}: of variables and homes only ~, $HOME and $USER are known here.",
                remedy="write the folder out.",
            )
        self.shell = shell
        self.state_dir = state_dir
        self.shared_parents = shared_parents
        self.deployment = deployment

    @property
    def machine(self) -> str:
        """The name of the machine whose commands and state folder these are; empty where that is the login node."""
        return socket.gethostname() if isinstance(self.shell, LocalShell) else ""

    # ---- what differs ----------------------------------------------------------------------------------------------
    def keeper_for(
        self,
        request: AllocationRequest,
        keeper: KeeperSettings,
        proofs: Mapping[str, str] | None = None,
        name: str = "",
    ) -> str:
        """The job script of a request.

        :param proofs: digests of what is to be run, see `submission.proofs`.
        :param name: the allocation's, which nodes that have no name of their own are called by.
        """
        raise NotImplementedError

    def address(self, node: str) -> str:
        """The name or address under which a node's services are reached."""
        return node

    def is_called(self, node: str, host: str) -> bool:
        """Tell by the spelling alone whether a host means a node."""
        raise NotImplementedError

    async def hosts(self, host: str, nodes: Sequence[str] = (), *, direct: bool) -> tuple[Host, Mapping[str, Host]]:
        """Ask for all that is known to mean a host, and for all that means each of some nodes of this cluster.

        :param direct: whether the host is connected to from this machine; otherwise from the login node.
        :raises ConnectionLost: the cluster could not be asked.
        """
        raise NotImplementedError

    # ---- submitting ------------------------------------------------------------------------------------------------
    async def submit(
        self,
        name: str,
        token: str,
        request: AllocationRequest,
        services: Iterable[ServiceCommand] = (),
        about: str = "",
        keeper: KeeperSettings | None = None,
        after: int = 0,
        tls: TlsFiles | None = None,
    ) -> Allocation:
        """Submit exactly once: a running incarnation of the same name is adopted instead.

        :param token: the new owner.
        :param keeper: how long the allocation holds on by itself.
        :param after: the incarnation that this one is to follow on, and which goes on until its end; 0 for none.
        :param tls: what its services are to prove themselves with; one that is adopted keeps its own.
        :raises SubmissionRefused: the scheduler does not take the request; trying again does not help.
        :raises SubmissionLimited: it takes no more of this user now.
        :raises StateFolderFull: the allocation could not be described; nothing was started.
        :raises StateFolderNotOurs: others could change what would be run; nothing was started.
        :raises AskedForElsewhere: another Airflow with this one's mark has one of that name running.
        :raises AllocationLost: what it is to follow on was given back; nothing was started.
        :raises SubmissionUnsure: it is not known whether it was submitted; the next call finds out.
        :raises ConnectionLost: the same, since the cluster could not be asked.
        """
        keeper = keeper or KeeperSettings()
        services = list(services)
        script = self.keeper_for(request, keeper, proofs(services, tls), name)
        body = submission(name, token, request, services, about, keeper, script, after, tls)
        told = await self.ask("submit", body, 120)
        check_folder(told)
        check_ours(name, told)
        values = dict(told)
        if "refused" in values:
            code, text = values["refused"]
            raise refusal(decode(text), code, whole(values.get("queued", [""])[0]) or 0)
        if "unwritable" in values:
            why = f"{values['unwritable'][0]} cannot be written on the cluster."
            raise InvalidSetting("state_dir", why, remedy="choose another folder, such as one in your home.")
        number, folder, adopted = (values.get(word, [""])[0] for word in ("incarnation", "folder", "adopted"))
        job_id, _, submitted = values.get("job", [""])[0].partition(" ")
        if not (incarnation := whole(number)) or whole(job_id) is None:
            why = decode(values.get("unsure", [""])[0]) or values.get("busy", [""])[0]
            raise SubmissionUnsure(why.strip())
        avoided = tuple(filter(None, values.get("avoided", [""])[0].split(",")))
        return Allocation(name, incarnation, job_id, submitted, folder, adopted == "1", self.machine, avoided)

    # ---- looking ---------------------------------------------------------------------------------------------------
    async def look(
        self, waiters: Sequence[Waiter], *, patience: float = 0, tick: float = 0.2
    ) -> dict[tuple[str, int], AllocationStatus]:
        """One command that answers for all: states, services, exit codes, new log bytes. Whom it has no time for it leaves out;
        those who come first it has time for.

        :param patience: seconds to wait on the cluster for something new before it answers.
        """
        asked = question(waiters, patience, tick)
        return await read_statuses(await self.call("look", asked, COMMAND_SECONDS + patience))

    async def certificate_at(self, host: str, port: int, *, direct: bool = True) -> tuple[str, str] | None:
        """The allocation and the certificate (PEM) of a service of ours, for those who only know where it is."""
        found = await self._listener(host, port, direct)
        if found is None or not found.lives:
            return None
        for word, fields in await self.ask("look", f"certificate {found.name} {found.incarnation}", COMMAND_SECONDS):
            if word == "certificate" and fields[0] == found.name and (certificate := decode(fields[2])):
                return found.name, certificate
        return None

    async def service_at(self, host: str, port: int, *, direct: bool = True) -> Finding | None:
        """The service of ours that listens, or listened last, there; for those who only know where it is.

        :param host: as somebody wrote it: a node's name, short, with `node_suffix` or in full, in any case, or its address.
        :param direct: whether the host is connected to from this machine; otherwise from the login node.
        :raises ConnectionLost: the cluster could not be asked.
        """
        found = await self._listener(host, port, direct)
        return None if found is None else await self.examine(found.name, found.incarnation, found.service)

    async def _listener(self, host: str, port: int, direct: bool) -> Listener | None:
        listeners = read_listeners(await self.call("find", f"listening_at {int(port)}", COMMAND_SECONDS))
        named = [one for one in listeners if self.is_called(one.node, host)]
        if named or not listeners:
            return best(named)
        meant, nodes = await self.hosts(host, nodes_of(listeners), direct=direct)
        return best([one for one in listeners if one.node in nodes and nodes[one.node].is_same(meant)])

    async def examine(self, name: str, incarnation: int, service: str) -> Finding | None:
        """What has become of a service, asked of its folder, the scheduler, and its node: whose socket its port is. It counts as
        used; None where there is none of that name.

        :raises ConnectionLost: the cluster could not be asked.
        """
        check(NAME, "name", name)
        check(SERVICE, "service", service)
        words = f"{name} {int(incarnation)} {service}"
        on_node = f"dir=${{service_dir%/services/*}}\n{script_of('held')}held {service}"
        return read_finding(await self.call("find", f"examine {words} {quote(on_node)}", COMMAND_SECONDS))

    async def renew(self, name: str, incarnation: int) -> bool:
        """Say that an allocation is in use, and tell whether it is there to be used.

        :raises ConnectionLost: the cluster could not be asked.
        """
        check(NAME, "name", name)
        told = await self.ask("lease", f"renew {name} {int(incarnation)}", COMMAND_SECONDS)
        check_folder(told)
        return "used" in dict(told)

    async def list_all(self) -> list[AllocationStatus]:
        """Every allocation in the state folder that has not ended by its keeper's word."""
        return list(read_status(await self.call("look", "survey", COMMAND_SECONDS)).values())

    async def survey(self) -> tuple[list[AllocationStatus], list[Job]]:
        """Every allocation in the state folder that has not ended, and every job of this user that bears a name of
        ours.

        :raises ConnectionLost: the scheduler does not answer.
        """
        answer = await self.call("look", "survey", COMMAND_SECONDS)
        return list(read_status(answer).values()), read_jobs(answer)

    async def partitions_of(self, allocation: Allocation) -> tuple[str, ...]:
        """In which partitions a pending job may run; none where the scheduler does not know the job.

        :raises ConnectionLost: the cluster, or the scheduler, could not be asked.
        """
        told = await self.ask("look", f"partitions_of {quote(allocation.job_id)}", COMMAND_SECONDS)
        if "silent" in dict(told):
            raise ConnectionLost("The scheduler does not say in which partitions the job may run.")
        return tuple(name for word, fields in told if word == "partitions" for name in fields[0].split(",") if name)

    async def failing_nodes(self) -> list[FailingNode]:
        """The nodes on which services failed in several jobs within a day while others did well elsewhere, the worst first:
        requests that name no nodes avoid them, as far as others are enough.
        """
        return read_failing(await self.ask("inspect", "failing", COMMAND_SECONDS))

    async def post_mortem(self, name: str, incarnation: int) -> str:
        """The keeper's last lines and, where there is accounting, Slurm's verdict."""
        check(NAME, "name", name)
        told = dict(await self.ask("find", f"post_mortem {name} {int(incarnation)}", COMMAND_SECONDS))
        sacct, keeper = (decode(told.get(word, [""])[0]).strip() for word in ("sacct", "keeper"))
        parts = [f"Slurm's accounting: {sacct}"] if sacct else []
        if keeper:
            parts.append(f"The keeper's last lines:\n{keeper}")
        return "\n".join(parts)

    # ---- giving back -----------------------------------------------------------------------------------------------
    async def release(self, name: str, *, grace: int = 8, elsewhere: bool = False) -> Released:
        """Give the nodes back. 'Already gone' is success.

        :param name: an allocation's name, or the beginning that the parts of one booking have in common.
        :param grace: seconds that the keeper has to stop its services before the job is ended.
        :param elsewhere: also what another Airflow with this one's mark asked for.
        :return: how many there are of that name, ended ones included; and of how many the nodes are still cleaned.
        :raises AskedForElsewhere: some of it is another Airflow's; that was left alone.
        :raises ConnectionLost: the cluster could not be asked.
        :raises AllocationLost: a job still runs although it was ended.
        """
        check(NAME, "name", name)
        any_place = "place=\n" if elsewhere else ""
        told = await self.ask("release", f"{any_place}release_all {name} {grace}", COMMAND_SECONDS + 40)
        check_released(name, told)
        check_ours(name, told)
        if "asked" not in dict(told):
            raise ConnectionLost(f"The command that gives {name} back was cut off.")
        completing = sum(word == "released" and fields[2] == "completing" for word, fields in told)
        return Released(sum(word == "found" for word, _ in told), completing)

    async def reap(self, status: AllocationStatus, *, grace: int = 8) -> bool:
        """Give one incarnation back, and say whether it was: one that somebody has taken over since `status` was seen stays.

        :raises ConnectionLost: the cluster could not be asked.
        :raises AllocationLost: its job still runs although it was ended.
        """
        check(NAME, "name", status.name)
        body = f"reap {status.name} {int(status.incarnation)} {quote(status.owner)} {grace}"
        told = await self.ask("release", body, COMMAND_SECONDS + 40)
        if "taken" in dict(told):
            return False
        check_released(status.name, told)
        if "released" not in dict(told):
            raise ConnectionLost(f"The command that gives {status.name} back was cut off.")
        return True

    async def end_job(self, job: Job) -> bool:
        """End a job that has no living folder, by its id and its name: ids are given out again. Whether it was; one whose
        folder is there was submitted since it was looked at.
        """
        told = await self.ask("release", f"end_named {quote(job.job_id)} {quote(job.name)}", COMMAND_SECONDS)
        return "taken" not in dict(told)

    async def cancel(self, name: str, token: str) -> int:
        """End what `token` still owns under `name`; what somebody else has taken over stays, and what another Airflow asked for.

        :param name: an allocation's name, or the beginning that the parts of one booking have in common.
        :return: how many allocations were ended.
        """
        check(TOKEN, "token", token)
        check(NAME, "name", name)
        told = await self.ask("release", f"cancel_all {name} {token}", 20)
        return sum(word == "cancelled" for word, _ in told)

    # ---- steps -----------------------------------------------------------------------------------------------------
    async def run_step(self, allocation: Allocation, script: str, *, timeout: float, node: str = "") -> str:
        """Run a script on a node of a running allocation and give back what it printed: for what is too much for a login node.

        :param script: POSIX sh.
        :param timeout: seconds.
        :param node: which one; empty for whichever has room.
        :raises ConnectionLost: it could not be run to its end.
        """
        check(NAME, "name", allocation.name)
        body = f"step {quote(str(allocation.job_id))} {int(timeout)} {quote(node)} {quote(script)}"
        return await self.call("step", body, timeout + 30)

    # ---- services --------------------------------------------------------------------------------------------------
    async def add_service(self, allocation: Allocation, service: ServiceCommand) -> None:
        """Start a service in a running allocation; one that is there already is left as it is.

        :raises AllocationLost: the allocation has ended.
        :raises InvalidSetting: one of that name is there, and something else was wanted of it.
        :raises StateFolderFull: it could not be written; it was not started.
        """
        check(SERVICE, "service", service.name)
        check(NAME, "name", allocation.name)
        # The command comes last: it is what announces the service.
        known = wanted(service)
        mark = f'put "$service_dir/wanted" {known} || return 1\n' if known else ""
        written = f'put "$service_dir/proof" {proof(service)} || return 1\n{mark}{fill(service)}'
        script = f"fill() {{\n{written}}}\nadd_service {allocation.name} {allocation.incarnation} {service.name} fill"
        told = await self.ask("services", script, COMMAND_SECONDS)
        check_folder(told)
        check_ours(allocation.name, told)
        if ended := dict(told).get("ended"):
            why = decode(ended[0])
            raise AllocationLost(f"{why}.", remedy="Allocate nodes anew.", idle=is_idle_end(why), retry=False)
        check_wanted(allocation.name, service.name, told, known)

    async def command_of(self, allocation: Allocation, service: str) -> ServiceCommand:
        """The command that a service was started with, so that it can be started anew with the same.

        :raises ServiceFailed: its folder does not tell, or tells something else.
        """
        check(SERVICE, "service", service)
        check(NAME, "name", allocation.name)
        body = f"command_of {allocation.name} {allocation.incarnation} {service}"
        told = await self.ask("services", body, COMMAND_SECONDS)
        return read_command(service, told, must_be_known=self.shared_parents)

    async def note(self, allocation: Allocation, failures: Iterable[Failure]) -> None:
        """Note of services that have not ended that they are of no use: their nodes may be at fault."""
        check(NAME, "name", allocation.name)
        for one in (failures := list(failures)):
            check(SERVICE, "service", one.service)
        body = "\n".join(one.words(*allocation.key) for one in failures)
        await self.ask("services", body, COMMAND_SECONDS)

    async def stop_service(self, allocation: Allocation, service: str) -> None:
        """Stop one service and wait until it has ended; one that has already ended is success.

        :raises InvalidSetting: the allocation never had a service of that name.
        """
        check(SERVICE, "service", service)
        check(NAME, "name", allocation.name)
        body = f"stop_service {allocation.name} {allocation.incarnation} {service}"
        told = await self.ask("services", body, COMMAND_SECONDS)
        check_folder(told)
        check_ours(allocation.name, told)
        if "absent" in dict(told):
            why = f"{allocation.name} has no service {service!r}, so nothing was stopped."
            raise InvalidSetting("service", why, remedy="name one that `airflow brayns services` lists.")
        if "stopped" not in dict(told):
            raise BraynsError(f"{service} of {allocation.name} did not end within 20 s.", remedy="Release the nodes.")

    async def ask(self, command: str, body: str, timeout: float) -> list[tuple[str, list[str]]]:
        """`call`, and the lines of its answer."""
        return list(protocol.read(ANSWERS[command], await self.call(command, body, timeout)))

    async def call(self, command: str, body: str, timeout: float) -> str:
        """Run calls of a command's functions.

        :param command: one of `scripts.COMMANDS`.
        :param body: the calls, one a line.
        """
        shared = "yes" if self.shared_parents else ""
        head = f"scheduler={self.scheduler}\nstate_dir={quote(self.state_dir)}\nshared={shared}\n"
        head += f"place={quote(self.deployment)}\n"
        return await self.shell.run(f"{head}{script_of(command)}{body}", timeout)
