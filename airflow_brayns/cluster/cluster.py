"""Slurm and this machine behind one class: submit, look, release. Everything that is said goes through one shell."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, decode, read_jobs, read_status, whole
from airflow_brayns.cluster.driving import Occupied, Seat, seat_of
from airflow_brayns.cluster.finding import Finding, read_finding
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script, shell_text
from airflow_brayns.cluster.refusal import refusal
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Shell, quote
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
    submission,
)
from airflow_brayns.errors import (
    AllocationLost,
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    StateFolderFull,
    StateFolderNotOurs,
    SubmissionRefused,
)

_COMMAND_SECONDS = 60.0


@dataclass(frozen=True)
class Waiter:
    """An allocation that somebody waits for.

    :param want: how many listening services make news.
    :param known: how much news is known already (`news`).
    :param offsets: how many bytes of each service's log are known.
    """

    name: str
    incarnation: int
    want: int = 1
    known: int = 0
    offsets: Mapping[str, int] | None = None


def news(status: AllocationStatus, want: int) -> int:
    """How many things have happened; counts as `progress_of` in login.sh does."""
    up = sum(service.port is not None for service in status.services)
    ended = sum(service.exit_code is not None for service in status.services)
    return bool(status.nodes) + (status.ended is not None) + ended + (up if up >= want else 0)


class Cluster:
    """Where nodes come from.

    :param shell: where the scheduler's commands are run.
    :param state_dir: the folder on the cluster's file system; a leading `~` is the remote home. It is the user's alone.
    :param shared_parents: whether others may write folders above it, so that it could be exchanged: nothing is run from there
        that is not proved by its digest.
    """

    scheduler: ClassVar[str]

    def __init__(self, shell: Shell, *, state_dir: str = "~/.airflow-brayns", shared_parents: bool = False) -> None:
        if not state_dir or not state_dir.isprintable() or len(state_dir) > 1000:
            raise InvalidSetting("state_dir", f"{state_dir[:200]!r} is not a folder")
        self.shell = shell
        self.state_dir = state_dir
        self.shared_parents = shared_parents

    # ---- what differs ----------------------------------------------------------------------------------------------
    def keeper_for(
        self, request: AllocationRequest, keeper: KeeperSettings, proofs: Mapping[str, str] | None = None
    ) -> str:
        """The job script of a request.

        :param proofs: digests of what is to be run, see `submission.proofs`.
        """
        raise NotImplementedError

    def address(self, node: str) -> str:
        """The name or address under which a node's services are reached."""
        return node

    def node_at(self, address: str) -> str:
        """The reverse of `address`."""
        return address

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
        :raises StateFolderFull: the allocation could not be described; nothing was started.
        :raises StateFolderNotOurs: others could change what would be run; nothing was started.
        :raises ConnectionLost: it is not known whether it was submitted; the next call finds out.
        """
        keeper = keeper or KeeperSettings()
        services = list(services)
        script = self.keeper_for(request, keeper, proofs(services, tls))
        body = submission(name, token, request, services, about, keeper, script, after, tls)
        answer = await self._call(body, 120)
        _check_folder(answer)
        values = dict(line.partition(" ")[::2] for line in answer.split("\n"))
        if "refused" in values:
            code, _, text = values["refused"].partition(" ")
            limit = re.search(r"accounting/QOS policy|submit limit", decode(text), re.IGNORECASE)
            raise SubmissionRefused(refusal(decode(text), code), retry=bool(limit))
        if "unwritable" in values:
            raise InvalidSetting(
                "state_dir", f"{values['unwritable']} cannot be written on the cluster; choose another folder"
            )
        if "foreign" in values:
            raise SubmissionRefused(
                f"installation_id: another Airflow, {values['foreign'][:120]}, has this one's mark and the same DAG run, and its job "
                f"{name} is running: it is left alone. Set [brayns] installation_id in one of them."
            )
        number = whole(values.get("incarnation", ""))
        job_id, _, submitted = values.get("job", "").partition(" ")
        if not number or whole(job_id) is None:
            told = decode(values.get("unsure", "")) or values.get("busy", "")
            raise ConnectionLost(
                f"The scheduler did not say whether the job was taken{': ' + told.strip() if told else ''}. "
                "Nothing is submitted twice: the next try looks for the job first."
            )
        return Allocation(name, number, job_id, submitted, values.get("folder", ""), values.get("adopted") == "1")

    # ---- looking ---------------------------------------------------------------------------------------------------
    async def look(
        self, waiters: Sequence[Waiter], *, patience: float = 0, tick: float = 0.2
    ) -> dict[tuple[str, int], AllocationStatus]:
        """One command that answers for all: states, services, exit codes, new log bytes.

        :param patience: seconds to wait on the cluster for something new before it answers.
        """
        lines = []
        for waiter in waiters:
            check(NAME, "name", waiter.name)
        if patience >= 1:
            words = " ".join(f"'{w.name} {w.incarnation} {w.want} {w.known}'" for w in waiters)
            lines.append(f"await_news {int(patience)} {tick} {words}")
        for waiter in waiters:
            lines.append(f"describe {waiter.name} {waiter.incarnation} 1")
            if not waiter.offsets:
                lines.append(f"all_logs {waiter.name} {waiter.incarnation}")
                lines.append(f"certificate {waiter.name} {waiter.incarnation}")
            for service, offset in (waiter.offsets or {}).items():
                check(SERVICE, "service", service)
                lines.append(f"log_since {waiter.name} {waiter.incarnation} {service} {int(offset)}")
        folders = " ".join(f'"$state_dir/{w.name}/{w.incarnation}"' for w in waiters)
        lines.append(f"look_at_jobs {folders}")
        return read_status(await self._call("\n".join(lines), _COMMAND_SECONDS + patience))

    async def certificate_at(self, node: str, port: int) -> tuple[str, str] | None:
        """The allocation and the certificate (PEM) of a service of ours, for those who only know where it is."""
        answer = await self._call(f"certificate_at {quote(node)} {int(port)}", _COMMAND_SECONDS)
        for line in answer.splitlines():
            match line.split(" "):
                case ["certificate", name, _, text] if NAME.fullmatch(name) and (found := decode(text)):
                    return name, found
        return None

    async def service_at(self, node: str, port: int) -> Finding | None:
        """The service of ours that listens, or listened last, there; for those who only know where it is.

        :raises ConnectionLost: the cluster could not be asked.
        """
        answer = await self._call(f"service_at {quote(node)} {int(port)}", _COMMAND_SECONDS)
        words = next((line.split(" ") for line in answer.splitlines() if line.startswith("at ")), [])
        if len(words) != 4 or whole(words[2]) is None:
            return None
        return await self.examine(words[1], int(words[2]), words[3])

    async def examine(self, name: str, incarnation: int, service: str) -> Finding | None:
        """What has become of a service, asked of its folder, the scheduler, and its node: whose socket its port is. It counts as
        used; None where there is none of that name.

        :raises ConnectionLost: the cluster could not be asked.
        """
        check(NAME, "name", name)
        check(SERVICE, "service", service)
        words = f"{name} {int(incarnation)} {service}"
        on_node = (
            f'scheduler={self.scheduler}\nset -- "${{service_dir%/services/*}}" held {service}\n{shell_text("keeper")}'
        )
        body = f"printf 'at %s\\n' '{words}'\nexamine {words} {quote(on_node)}"
        return read_finding(await self._call(body, _COMMAND_SECONDS))

    async def renew(self, name: str, incarnation: int) -> bool:
        """Say that an allocation is in use. Whether it is there to be used.

        :raises ConnectionLost: the cluster could not be asked.
        """
        check(NAME, "name", name)
        answer = await self._call(f"renew {name} {int(incarnation)}", _COMMAND_SECONDS)
        _check_folder(answer)
        return "used" in answer.split("\n")

    async def list_all(self) -> list[AllocationStatus]:
        """Every allocation in the state folder that has not ended by its keeper's word."""
        return list(read_status(await self._call(_LIST, _COMMAND_SECONDS)).values())

    async def survey(self) -> tuple[list[AllocationStatus], list[Job]]:
        """The same, and every job of this user that bears a name of ours.

        :raises ConnectionLost: the scheduler does not answer.
        """
        answer = await self._call(_LIST, _COMMAND_SECONDS)
        return list(read_status(answer).values()), read_jobs(answer)

    async def post_mortem(self, name: str, incarnation: int) -> str:
        """The keeper's last lines and, where there is accounting, Slurm's verdict."""
        check(NAME, "name", name)
        answer = await self._call(f"post_mortem {name} {int(incarnation)}", _COMMAND_SECONDS)
        values = {key: decode(rest).strip() for key, _, rest in (line.partition(" ") for line in answer.splitlines())}
        parts = [f"Slurm's accounting: {values['sacct']}"] if values.get("sacct") else []
        if values.get("keeper"):
            parts.append(f"The keeper's last lines:\n{values['keeper']}")
        return "\n".join(parts)

    # ---- giving back -----------------------------------------------------------------------------------------------
    async def release(self, name: str, *, grace: int = 8) -> int:
        """Give the nodes back. 'Already gone' is success.

        :param name: an allocation's name, or the beginning that the parts of one booking have in common.
        :param grace: seconds that the keeper has to stop its services before the job is ended.
        :return: how many there are of that name, ended ones included.
        :raises ConnectionLost: the cluster could not be asked.
        :raises AllocationLost: a job still runs although it was ended.
        """
        check(NAME, "name", name)
        answer = await self._call(f"release_all {name} {grace}\nprintf 'asked\\n'", _COMMAND_SECONDS + 40)
        self._check_released(name, answer)
        if "asked" not in answer.split("\n"):
            raise ConnectionLost(f"The command that gives {name} back was cut off.")
        return sum(line.startswith("found ") for line in answer.splitlines())

    async def reap(self, status: AllocationStatus, *, grace: int = 8) -> bool:
        """Give one incarnation back, unless somebody has taken it over since `status` was seen. Whether it was.

        :raises ConnectionLost: the cluster could not be asked.
        :raises AllocationLost: its job still runs although it was ended.
        """
        check(NAME, "name", status.name)
        body = f"reap {status.name} {int(status.incarnation)} {quote(status.owner)} {grace}"
        answer = await self._call(body, _COMMAND_SECONDS + 40)
        if answer.startswith("taken "):
            return False
        self._check_released(status.name, answer)
        if not answer.startswith("released "):
            raise ConnectionLost(f"The command that gives {status.name} back was cut off.")
        return True

    async def end_job(self, job: Job) -> bool:
        """End a job that has no living folder, by its id and its name: ids are given out again. Whether it was; one whose
        folder is there was submitted since it was looked at.
        """
        answer = await self._call(f"end_named {quote(job.job_id)} {quote(job.name)}", _COMMAND_SECONDS)
        return not answer.startswith("taken ")

    async def cancel(self, name: str, token: str) -> int:
        """End what `token` still owns under `name`; what somebody else has taken over stays.

        :param name: an allocation's name, or the beginning that the parts of one booking have in common.
        :return: how many allocations were ended.
        """
        check(TOKEN, "token", token)
        check(NAME, "name", name)
        answer = await self._call(f"cancel_all {name} {token}", 20)
        return sum(line.startswith("cancelled ") for line in answer.splitlines())

    # ---- driving ---------------------------------------------------------------------------------------------------
    async def drive(self, allocations: Sequence[Allocation], token: str, by: str = "") -> dict[tuple[str, int], int]:
        """Take the services of allocations to render with; an earlier driver for the same is told by its next `confirm`.

        :param token: of this driver.
        :param by: for which movie; the next try of the same takes over, another one is kept out as long as it is confirmed.
        :return: seconds since the driver before was last heard of, by allocation; -1 where there was none. Those that have
            ended are missing.
        :raises Occupied: another movie renders with one of them; then none is taken.
        """
        taken = await self.drive_seats([seat_of(one) for one in allocations], token, by)
        return {(seat.name, int(seat.place)): heard for seat, heard in taken.items()}

    async def confirm(self, allocations: Sequence[Allocation], token: str, by: str = "") -> dict[tuple[str, int], bool]:
        """Say that they are in use; whether each is still this driver's. Those that are gone are missing."""
        found = await self.confirm_seats([seat_of(one) for one in allocations], token, by)
        return {(seat.name, int(seat.place)): ours for seat, ours in found.items()}

    async def let_go(self, allocations: Sequence[Allocation], token: str) -> None:
        """The next driver need not wait."""
        await self.leave_seats([seat_of(one) for one in allocations], token)

    async def drive_seats(self, seats: Sequence[Seat], token: str, by: str = "") -> dict[Seat, int]:
        """`drive`, for allocations, single services, and services that are in no allocation of ours."""
        words = await self._drive("drive", seats, token, f" '{_coded(by)}'")
        if occupied := next((one for one in words if one[0] == "occupied" and len(one) == 5), None):
            await self.leave_seats(seats, token)
            raise Occupied(decode(occupied[4]), whole(occupied[3]) or 0)
        return {
            Seat(one[1], one[2]): int(one[3])
            for one in words
            if one[0] == "driving" and len(one) == 4 and re.fullmatch(r"-?[0-9]{1,12}", one[3])
        }

    async def confirm_seats(self, seats: Sequence[Seat], token: str, by: str = "") -> dict[Seat, bool]:
        """`confirm`, for any kind of seat."""
        words = await self._drive("confirm", seats, token, f" '{_coded(by)}' 0")
        return {Seat(one[1], one[2]): one[0] == "driving" for one in words}

    async def leave_seats(self, seats: Sequence[Seat], token: str) -> None:
        """`let_go`, for any kind of seat."""
        await self._drive("let_go", seats, token, "")

    async def _drive(self, verb: str, seats: Sequence[Seat], token: str, more: str) -> list[list[str]]:
        check(TOKEN, "token", token)
        script = "\n".join(f"{verb} {seat.name} {seat.place} {token}{more}" for seat in seats)
        answer = await self._call(script or ":", _COMMAND_SECONDS)
        _check_folder(answer)
        kinds = ("driving ", "undriven ", "occupied ")
        words = [line.split(" ") for line in answer.split("\n") if line.startswith(kinds)]
        known = {(seat.name, seat.place) for seat in seats}
        return [one for one in words if len(one) > 2 and (one[1], one[2]) in known]

    async def identity(self, paths: Sequence[str]) -> str:
        """Size and time of files as the cluster sees them, so that a changed one is noticed; nothing where it cannot tell."""
        words = " ".join(quote(path) for path in paths)
        script = f'for one in {words}; do stat -L -c "%s %Y" -- "$one" 2>/dev/null || printf "unknown\\n"; done'
        return (await self._call(script, _COMMAND_SECONDS)).strip()

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
        return await self._call(body, timeout + 30)

    async def install(self, program: Path) -> str:
        """A program's path as the nodes see it; copied into the state folder once.

        :param program: a file of this machine that needs no libraries.
        """
        if self.scheduler == "local":
            return str(program)
        digest = await asyncio.to_thread(_digest, program)
        name = f"{program.name}-{digest[:12]}"
        where = f'at="$state_dir/bin/"{quote(name)}\n'
        whole_file = f'[ "$(sha256sum <"$at" | cut -d" " -f1)" = {digest} ]'
        answer = await self._call(
            'mkdir -p "$state_dir/bin" || no_room "$state_dir"\ncheck_folder\n'
            f'{where}printf "%s\n" "$at"; [ ! -x "$at" ] || ! {whole_file} || echo there',
            60,
        )
        _check_folder(answer)
        path, _, there = answer.strip().partition("\n")
        if not there:
            partial = f"{path}.{secrets.token_hex(4)}"
            await self._copy(program, partial)
            check_it = (
                f'at={quote(partial)}\n{whole_file} && chmod 700 "$at" && mv -f "$at" {quote(path)} && echo installed'
            )
            answer = await self._call(f'{check_it} || {{ rm -f "$at"; no_room "$state_dir"; }}', 60)
            _check_folder(answer)
            if "installed" not in answer.split("\n"):
                raise ConnectionLost(f"{program.name} did not arrive whole in {path}.")
        return path

    async def _copy(self, program: Path, partial: str) -> None:
        try:
            await self.shell.put(program, partial)
        except ConnectionLost:
            _check_folder(
                await self._call(f'has_room "$state_dir" || no_room "$state_dir"; rm -f {quote(partial)}', 60)
            )
            raise

    # ---- services --------------------------------------------------------------------------------------------------
    async def add_service(self, allocation: Allocation, service: ServiceCommand) -> None:
        """Start a service in a running allocation; one that is there already is left as it is.

        :raises AllocationLost: the allocation has ended.
        :raises StateFolderFull: it could not be written; it was not started.
        """
        check(SERVICE, "service", service.name)
        check(NAME, "name", allocation.name)
        # The command comes last: it is what announces the service.
        written = f'put "$service_dir/proof" {proof(service)} || return 1\n{fill(service)}'
        script = f"fill() {{\n{written}}}\nadd_service {allocation.name} {allocation.incarnation} {service.name}"
        answer = await self._call(script, _COMMAND_SECONDS)
        _check_folder(answer)
        if answer.startswith("ended"):
            raise AllocationLost(f"{decode(answer.partition(' ')[2].strip())}; allocate nodes anew.", retry=False)

    async def stop_service(self, allocation: Allocation, service: str) -> None:
        """Stop one service and wait until it has ended; one that has already ended is success.

        :raises InvalidSetting: the allocation never had a service of that name.
        """
        check(SERVICE, "service", service)
        check(NAME, "name", allocation.name)
        answer = await self._call(
            f"stop_service {allocation.name} {allocation.incarnation} {service}", _COMMAND_SECONDS
        )
        _check_folder(answer)
        if answer.startswith("absent "):
            raise InvalidSetting("service", f"{allocation.name} has no service {service!r}, so nothing was stopped")
        if "stopped" not in answer:
            raise BraynsError(f"The service {service} of {allocation.name} did not end within 20 s; release the nodes.")

    @staticmethod
    def _check_released(name: str, answer: str) -> None:
        for line in answer.splitlines():
            if line.startswith("silent "):
                raise ConnectionLost(
                    f"Slurm did not answer while {name} was given back ({decode(line[7:]).strip()}). The keeper was told "
                    "and ends by itself; the next try looks again."
                )
            if line.startswith("released ") and " still " in line:
                raise AllocationLost(
                    f"{name} was told to end, but Slurm says it is {line.rpartition(' ')[2]}. `scancel` it by hand."
                )

    async def _call(self, body: str, timeout: float) -> str:
        shared = "yes" if self.shared_parents else ""
        head = f"scheduler={self.scheduler}\nstate_dir={quote(self.state_dir)}\nshared={shared}\n"
        return await self.shell.run(f"{head}{shell_text('login')}\n{body}", timeout)


def _check_folder(answer: str) -> None:
    """What the state folder does not allow.

    :raises StateFolderFull: what was to be written could not be.
    :raises StateFolderNotOurs: others could change what is run from there.
    """
    for line in answer.split("\n"):
        if line.startswith("full "):
            raise StateFolderFull(line[5:])
        match line.split(" "):
            case ["untrusted", ("owner" | "writable" | "link" | "mode") as reason, part, who]:
                raise StateFolderNotOurs(reason, decode(part), decode(who))


_LIST = """list_all
set --
for one in "$state_dir"/ab-*/[0-9]*/; do [ -d "$one" ] && [ ! -e "$one/ended" ] && set -- "$@" "${one%/}"; done
look_at_jobs "$@\""""


class SlurmCluster(Cluster):
    """Nodes of a Slurm cluster, asked for by `sbatch` on a login node or here.

    :param node_suffix: what to put behind a node's name where it is not known by its short one.
    """

    scheduler = "slurm"

    def __init__(
        self,
        shell: Shell,
        *,
        state_dir: str = "~/.airflow-brayns",
        node_suffix: str = "",
        shared_parents: bool = False,
    ) -> None:
        super().__init__(shell, state_dir=state_dir, shared_parents=shared_parents)
        self._node_suffix = node_suffix

    def keeper_for(
        self, request: AllocationRequest, keeper: KeeperSettings, proofs: Mapping[str, str] | None = None
    ) -> str:
        """See `Cluster.keeper_for`."""
        return keeper_script(
            keeper,
            scheduler=self.scheduler,
            cpus_per_task=request.cpus_per_task,
            proofs=proofs,
            shared=self.shared_parents,
        )

    def address(self, node: str) -> str:
        """See `Cluster.address`."""
        return f"{node}{self._node_suffix}"

    def node_at(self, address: str) -> str:
        """See `Cluster.node_at`."""
        return address.removesuffix(self._node_suffix) if self._node_suffix else address


class LocalCluster(Cluster):
    """This machine: each "node" is a slot in which one service runs."""

    scheduler = "local"

    def keeper_for(
        self, request: AllocationRequest, keeper: KeeperSettings, proofs: Mapping[str, str] | None = None
    ) -> str:
        """See `Cluster.keeper_for`."""
        slots = tuple(f"slot{number}" for number in range(1, request.nodes + 1))
        limit = request.seconds or 0
        return keeper_script(
            keeper,
            scheduler=self.scheduler,
            nodes=slots,
            time_limit=limit,
            proofs=proofs,
            shared=self.shared_parents,
        )

    def address(self, node: str) -> str:
        """See `Cluster.address`."""
        return "127.0.0.1"

    def node_at(self, address: str) -> str:
        """See `Cluster.node_at`; every slot is at this machine's own address, and no slot is at another's."""
        own = address.startswith("127.") or address.lower() in ("::1", "localhost", socket.gethostname().lower())
        return "" if own else address


def _coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
