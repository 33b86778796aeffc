"""What a cluster says, damaged."""

from __future__ import annotations

import asyncio
import re
from random import Random

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState
from airflow_brayns.cluster.answers import read_job, read_status
from airflow_brayns.cluster.files import identity
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Framed
from airflow_brayns.cluster.slurm import SlurmCluster
from tests.fuzz import cases
from tests.fuzz.readers.checks import coded, must, ours
from tests.fuzz.senders.common import NAME
from tests.support.shell import FakeShell

# ---- what a cluster says ------------------------------------------------------------------------------------------------
STATUS = f"""allocation {NAME} 1
job 77 2026-11-22T10:00:00
nodes r1i1n0 r1i1n1
released
ending {coded("released")}
heartbeat 3
owner abc
service brayns1
node r1i1n0
listening 43111
pid 17
service brayns2
node r1i1n1
exit {coded("1 it broke")}
about {coded("{}")}
log {NAME} 1 brayns1 0 {coded("Server started on '0.0.0.0:43111'.")}
allocation ab-12001 2
gone
ended {coded("released")}
queue 77|RUNNING|None|r1i1n[0-1]|a|b|{NAME}-1|2026-11-22T10:00:00|2026-11-22T10:00:01|1-02:03:04
queue 78|PENDING|Priority||x|ab-12001-2|2026-11-22T10:00:00|N/A|1:00
answered
"""
_STATUS_PIECES = [line.encode() for line in STATUS.splitlines(keepends=True)] + [
    b"listening \xc2\xb2\n", b"listening " + b"9" * 5000, b"allocation ab-1 \xc2\xb2\n", b"exit MiB4\n", b"exit wrI=\n", b"\x0bended \x0b",
    b"\xe2\x80\xa8answered\xe2\x80\xa8", b"service Not A Name\n", b"nodes $(reboot) -x \x1b[2J\n", b"node a b\n", b"|", b"||||||||||",
    b"silent ", b"9-99:99:99", b"9" * 5000 + b":1", b"job \n", b"job $(x) y\n",
]  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")


def status(rng: Random) -> None:
    """`read_status`: an answer cut and spliced anywhere."""
    answer = cases.mutated(rng, STATUS.encode(), _STATUS_PIECES).decode("utf-8", "replace")
    for (name, number), found in read_status(answer).items():
        must(re.fullmatch(r"ab-[0-9a-f]{1,40}", name) and number >= 0, f"a name {name!r} {number!r}")
        check_status(found)
        must(
            found.state is not JobState.ENDED or found.answered or found.ended is not None, "ended, and nobody said so"
        )
    read_job(rng.choice(answer.split("\n")))


def check_status(found: AllocationStatus) -> None:
    """What must be true of whatever is read."""
    for service in found.services:
        must(service.port is None or 0 < service.port < 65536, f"port {service.port}")
        must(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", service.name), f"service {service.name!r}")
        must(_PLAIN.fullmatch(service.node), f"node {service.node!r}")
        must(service.exit_code is None or 0 <= service.exit_code < 10**9, f"exit {service.exit_code}")
    must(all(_PLAIN.fullmatch(node) for node in found.nodes), f"nodes {found.nodes!r}")
    if found.job is not None:
        must(
            found.job.name == f"{found.name}-{found.incarnation}" and found.job.job_id == found.job_id, "another's job"
        )


SUBMITTED = f"incarnation 3\nadopted 0\njob 77 2026-11-22T10:00:00\nfolder /home/u/.airflow-brayns/{NAME}/3\n"
_RELEASED = f"found /s/{NAME}/1\nreleased {NAME} 1 done\nasked\n"
_DRIVEN = f"driving {NAME} 1 -1\nundriven {NAME} 2\n"
_ANSWERS = [
    piece.encode()
    for piece in (
        SUBMITTED, _RELEASED, _DRIVEN, "refused 1 aW52YWxpZCBhY2NvdW50\n", "unsure dGltZWQgb3V0\n", "unwritable /x\n", "busy x\n", "incarnation ²\n",
        f"incarnation {'9' * 5000}\n", "incarnation\n", "job\n", f"driving {NAME}\n", f"driving {NAME} ² ²\n", "undriven\n", "still ",
        f"released {NAME} 1 still RUNNING\n", "silent eA==\n", "sacct eA==\n", "keeper eA==\n", "ended\n", "stopped s1\n", "/path/bin\nthere",
    )
]  # fmt: skip


def answers(rng: Random) -> None:
    """Answers to submit, release, cancel, drive, look at what is left, add and stop."""
    good = rng.choice(
        (SUBMITTED, _RELEASED, _DRIVEN, "keeper eA==\nsacct eA==\n", "ended eA==\n", "1 2\nunknown\n", STATUS)
    )
    answer = cases.mutated(rng, good.encode(), _ANSWERS).decode("utf-8", "replace")
    cluster = SlurmCluster(FakeShell(answer))
    one = Allocation(NAME, 1, "77")

    async def main() -> None:
        match rng.randrange(9):
            case 0:
                found = await cluster.submit(NAME, "owner", AllocationRequest())
                must(found.name == NAME and 0 < found.incarnation < 10**9, f"{found!r}")
                must(re.fullmatch(r"[0-9]{1,20}", found.job_id), f"job {found.job_id!r} of {answer!r}")
            case 1:
                must(await cluster.release(NAME) >= 0, "fewer than none")
                must("asked" in answer.split("\n"), "released, and it was cut off")
            case 2:
                await cluster.cancel(NAME, "owner")
            case 3:
                for lease, heard in (await take_leases(cluster, [lease_of(one)], "me")).items():
                    must(lease == lease_of(one) and isinstance(heard, int), f"{lease!r} is not what was asked for")
            case 4:
                must(
                    set(await confirm_leases(cluster, [lease_of(one)], "me")) <= {lease_of(one)},
                    "not what was asked for",
                )
            case 5:
                await cluster.post_mortem(NAME, 1)
            case 6:
                await cluster.list_all()
                await identity(cluster, ["/a", "/b"])
            case 7:
                await cluster.stop_service(one, "s1")
            case _:
                watch = Poller(cluster, 5).watch(one, 1)
                await anext(watch)

    ours(lambda: asyncio.run(main()))


def framed(rng: Random) -> None:
    """A command's output, cut or spliced: read whole, or not at all."""
    one = Framed("true")
    body = cases.text(rng)
    text = body.encode("utf-8", "replace")
    whole = f"motd\n\n{one._begin}\n".encode() + text + f"\n{one._end} 0\n".encode()
    data = cases.mutated(rng, whole, [one._begin.encode(), one._end.encode(), b"\n"])
    found = ours(lambda: one.read(data, rng.randbytes(30)))
    must(found is None or (one._begin.encode() in data and one._end.encode() in data), "believed without its marks")
    must(one.read(whole, b"") == text.decode(), "the whole answer is not read")
    cut = whole[: rng.randrange(len(whole) - 2 - len(one._end))]
    must(ours(lambda: one.read(cut, b"")) is None, "a cut answer was believed")
