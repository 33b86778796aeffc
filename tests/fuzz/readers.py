"""What comes back, damaged: nothing of it may hang, crash with an error that is not ours, or be believed.

Each case takes a `Random` and reads one damaged answer; it raises `Finding` for what must not be. Any error that is not this
package's own counts as one too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import math
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
from PIL import Image

from airflow_brayns import cluster_encode
from airflow_brayns.booking import Booking, service_commands
from airflow_brayns.brayns.client import Reply
from airflow_brayns.brayns.command import PORT_PATTERNS
from airflow_brayns.brayns.readiness import NotYet, parse_endpoint, why_it_ended
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, JobState, ServiceStatus, read_status
from airflow_brayns.cluster.cluster import SlurmCluster, Waiter, news
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Framed
from airflow_brayns.cluster_store import ClusterStore
from airflow_brayns.errors import BraynsError, InvalidSetting, RpcFailed
from airflow_brayns.follow import Follower
from airflow_brayns.movie import scene, way
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.picture import check_picture
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import Made
from airflow_brayns.plain import INDENT, LONGEST, one_line, plain
from airflow_brayns.service_log import MOST_WARNINGS
from airflow_brayns.settings import ClusterSettings, literal
from tests.fuzz import cases
from tests.fuzz.senders import NAME, Nowhere, a_plan, a_specification

_UNSEEN = {chr(code) for code in (*range(9), *range(10, 32), *range(127, 160), 0x200B, 0x202E, 0x2028, 0x2029, 0xFEFF)}
SLOW = 1.0  # seconds of the processor that nothing may take; others may keep it busy
Case = Callable[[Random], None]


class Finding(AssertionError):  # noqa: N818 - named for what it is
    """Something that must not be."""


def must(holds: object, what: str) -> None:
    """Something that must be."""
    if not holds:
        raise Finding(what[:600])


def _coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


# ---- what a cluster says ------------------------------------------------------------------------------------------------
STATUS = f"""allocation {NAME} 1
job 77 2026-11-22T10:00:00
nodes r1i1n0 r1i1n1
released
ending {_coded("released")}
heartbeat 3
owner abc
service brayns1
node r1i1n0
listening 43111
pid 17
service brayns2
node r1i1n1
exit {_coded("1 it broke")}
about {_coded("{}")}
log {NAME} 1 brayns1 0 {_coded("Server started on '0.0.0.0:43111'.")}
allocation ab-12001 2
gone
ended {_coded("released")}
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
    Job.read(rng.choice(answer.split("\n")))


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
    cluster = SlurmCluster(Nowhere(answer))
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
                for key, heard in (await cluster.drive([one], "me")).items():
                    must(key == one.key and isinstance(heard, int), f"{key!r} is not what was asked for")
            case 4:
                must(set(await cluster.confirm([one], "me")) <= {one.key}, "not what was asked for")
            case 5:
                await cluster.post_mortem(NAME, 1)
            case 6:
                await cluster.list_all()
                await cluster.identity(["/a", "/b"])
            case 7:
                await cluster.stop_service(one, "s1")
            case _:
                watch = Poller(cluster, 5).watch(one, 1)
                await anext(watch)

    _ours(lambda: asyncio.run(main()))


def _ours(make: Callable[[], Any], *others: type[Exception]) -> Any:
    """What is made, or None with one of this package's errors."""
    try:
        return make()
    except (BraynsError, NotYet, *others) as error:
        must(len(str(error)) < 100_000, f"an error of {len(str(error))} characters")
        return None


def framed(rng: Random) -> None:
    """A command's output, cut or spliced: read whole, or not at all."""
    one = Framed("true")
    body = cases.text(rng)
    text = body.encode("utf-8", "replace")
    whole = f"motd\n\n{one._begin}\n".encode() + text + f"\n{one._end} 0\n".encode()
    data = cases.mutated(rng, whole, [one._begin.encode(), one._end.encode(), b"\n"])
    found = _ours(lambda: one.read(data, rng.randbytes(30)))
    must(found is None or (one._begin.encode() in data and one._end.encode() in data), "believed without its marks")
    must(one.read(whole, b"") == text.decode(), "the whole answer is not read")
    cut = whole[: rng.randrange(len(whole) - 2 - len(one._end))]
    must(_ours(lambda: one.read(cut, b"")) is None, "a cut answer was believed")


# ---- a service's log ----------------------------------------------------------------------------------------------------
_LOG_PIECES = (
    b"Server started on '0.0.0.0:43210'.", b"Server started on '", b":43210'", b"Rockets server running on 1.2.3.4:5000", b"\x1b[32m", b"\xff", b"\0", b"\r",
    b"[info][21:11:45] ", b"Error opening dynamic library: libX.so: no", b"Error opening dynamic library: lib", b"Address already in use",
    b"Unknown keyword argument", b"Server started on '[::1]:77'.", b"Server started on ':99999999999999999999'", b"' :1'", b"\xc3", b"\xe2\x80\xa8",
)  # fmt: skip


def log_lines(rng: Random) -> bytes:
    """A log with anything in it."""
    lines = []
    for _ in range(rng.randint(1, 12)):
        parts = [
            rng.choice((rng.choice(_LOG_PIECES), rng.randbytes(5), cases.text(rng).encode("utf-8", "replace")))
            for _ in range(4)
        ]
        lines.append(b"".join(parts))
    log = b"\n".join(lines)
    return log * rng.choice((1, 1, 1, 30)) + b"x" * rng.choice((0, 0, 0, 200_000)) + rng.choice((b"\n", b""))


@cache
def keeper_function() -> str:
    """How the wrapper finds ports in a log, as it stands in keeper.sh."""
    text = (Path(cluster_encode.__file__).parent / "cluster/keeper.sh").read_text()
    found = re.search(r"^named_ports\(\) \{.*?^\}$", text, re.MULTILINE | re.DOTALL)
    must(found, "keeper.sh has no function named_ports")
    assert found is not None
    return f"service_dir=$1\npatterns=$(cat $1/port.sed)\n{found[0]}\nnamed_ports\n"


def ports(rng: Random) -> None:
    """Ports in the log, by the keeper's own function, in several locales: numbers that a line really says, or none."""
    with tempfile.TemporaryDirectory(prefix="ab-hostile-") as folder:
        Path(folder, "port.sed").write_text("".join(f"{pattern}\n" for pattern in PORT_PATTERNS))
        log = log_lines(rng)
        Path(folder, "log").write_bytes(log)
        locale = rng.choice(("C", "C.UTF-8"))
        began = time.monotonic()
        done = subprocess.run(
            ["/bin/sh", "-c", keeper_function(), "x", folder], capture_output=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": locale}
        )  # fmt: skip
        must(time.monotonic() - began < 5, f"it took {time.monotonic() - began:.1f} s")
    found = done.stdout.splitlines()
    must(len(found) == len(set(found)) <= 50, f"{len(found)} ports")
    for port in found:
        must(b"\n" in log, "a line that has not ended yet was read")
        must(re.fullmatch(rb"[0-9]{1,5}", port), f"{locale}: the port {port[:80]!r} of {log[:300]!r}")
        must(b":" + port in log, f"{locale}: a port that is not there: {port!r}")
    for line in log.split(b"\n")[:-1]:
        match = re.match(rb".*Server started on '.*:([0-9]+)'", line, re.DOTALL)
        if match and re.fullmatch(rb"[1-9][0-9]{0,4}", match[1]) and len(found) < 50:
            must(match[1] in found, f"{locale}: the port {match[1]!r} was not seen in {line[:300]!r}")


class _Quiet:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *arguments: Any) -> None:
        self.lines.append(text % arguments)

    warning = error = debug = info

    def log(self, level: int, text: str, *arguments: Any) -> None:
        self.info(text, *arguments)


def logs(rng: Random) -> None:
    """The follower's way with logs, and why a service ended: quick, bounded, and told in one piece."""
    data = log_lines(rng)[:65536]
    if rng.random() < 0.1:
        data = (rng.choice(_LOG_PIECES) * 65536)[:65536]
    follower = Follower(
        SimpleNamespace(cluster=SlurmCluster(Nowhere())),  # type: ignore[arg-type]
        Booking(NAME, (Allocation(NAME, 1, "7"),)),
        _settings(),
        ("braynsDTI",),
        quiet := _Quiet(),
    )
    service = ServiceStatus("s1", "n1", None, rng.choice((None, 0, 1, 98, 127, 139)), cases.text(rng))
    found = AllocationStatus(NAME, 1, services=(service,))
    began = time.process_time()
    for _ in range(2):
        follower._show_logs(Allocation(NAME, 1, "7"), {"s1": data.decode("utf-8", "replace")}, found)
    _ours(lambda: follower.check(found, service))
    why_it_ended(1, cases.text(rng), follower.log_of(found, service), ["x"])
    must(
        time.process_time() - began < SLOW,
        f"a log of {len(data)} bytes took {time.process_time() - began:.1f} s: {data[:100]!r}",
    )
    must(not any(set(line) & _UNSEEN for line in quiet.lines), "a line with what is not seen")
    must(not any(len(line.splitlines()) > 1 for line in quiet.lines), "one line that reads as several")
    must(len(quiet.lines) <= 2 * MOST_WARNINGS, "more lines than a log can bear")
    must(sum(len(one.end) for one in follower._logs.values()) <= 8192, "more is kept than said")


@cache
def _settings() -> ClusterSettings:
    return ClusterSettings.read({})


# ---- what anybody says, and where it goes -------------------------------------------------------------------------------
def can_be_kept(value: Any, what: str) -> None:
    """An event, an XCom and a database's JSON column take it; no line of it looks like one of ours."""
    try:
        msgspec.msgpack.encode(value)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, OverflowError, RecursionError, NotImplementedError) as error:
        raise Finding(f"{what} cannot be sent: {type(error).__name__}: {error}") from None
    for one in _texts(value):
        must(not set(one) & (_UNSEEN - {"\n"}), f"{what} holds what is not seen: {one[:200]!r}")
        must(all(line.startswith(INDENT) for line in one.splitlines()[1:]), f"{what} forges a line: {one[:200]!r}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)


def said(rng: Random) -> None:
    """Values, names and errors made of what a service says: each can be an event, an XCom, a row and a line of a log."""
    value = cases.value(rng, rng.choice((2, 5)))
    for _ in range(rng.choice((0, 0, 10, 500))):
        value = rng.choice(([value], {cases.text(rng): value}))
    text = cases.long_text(rng, size=1 << 16) if rng.random() < 0.02 else cases.text(rng, longest=12)
    began = time.process_time()
    kept = plain(value)
    can_be_kept(kept, "a reply")
    must(plain(kept) == kept, f"made safe twice it is another: {kept!r}")
    event = plain({"status": "error", "message": text, "services": [value]}, LONGEST)
    can_be_kept(event, "an event")
    must(len(event["message"]) <= LONGEST, "a message without a bound")
    name = one_line(text)
    can_be_kept(name, "a name")
    must("\n" not in name and len(name) <= 200, f"a name of {name!r}")
    for error in (BraynsError(text), RpcFailed(text, 1, text, [text]), InvalidSetting(text, text), NotYet(text)):
        can_be_kept(str(error), type(error).__name__)
        must(len(str(error)) <= LONGEST, "an error without a bound")
    must(time.process_time() - began < SLOW, f"{time.process_time() - began:.1f} s for {text[:80]!r}")


# ---- what a service says ------------------------------------------------------------------------------------------------
FACTS = {"min": [0, 0, 0], "max": [1, 2, 3]}, {"start_frame": 0, "end_frame": 9, "current": 0, "dt": 0.1, "unit": "ms"}


def facts(rng: Random) -> None:
    """What a service tells of its scene, or a manifest of it: the camera stays finite."""
    bounds, simulation = cases.damaged(rng, FACTS[0], 0.1), cases.damaged(rng, FACTS[1], 0.1)
    found = _ours(lambda: SceneFacts.read(bounds, simulation))
    if found is None:
        return
    again = _ours(
        lambda: SceneFacts.from_plain(json.loads(cases.as_json(rng, found.plain()))), ValueError, RecursionError
    )
    found.agrees_with(again or found)
    _check_plan(a_plan(), found, simulation=rng.random() < 0.5)


def _check_plan(plan: Plan, found: SceneFacts, simulation: bool) -> None:
    spec = plan.specification
    if simulation:
        spec = a_specification(frames=None, simulation={"slowing_factor": 1.0, "start": 0, "end": 3})
    plan = Plan(spec, found, "scene")
    total = _ours(lambda: plan.total)
    for frame in range(min(total or 0, 3)):
        pose = plan.pose(frame)
        numbers = [*pose.position, *pose.target, *pose.up, pose.fovy]
        must(all(math.isfinite(number) for number in numbers), f"{pose!r} of {found!r}")
        plan.key(frame)


class Answering:
    """A client whose service answers anything."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.calls = 0

    def reply(self, method: str) -> Reply:
        self.calls += 1
        must(self.calls < 10_000, "it asks for ever")
        good: dict[str, Any] = {
            "get-scene": {"bounds": FACTS[0], "models": []}, "get-simulation-parameters": FACTS[1], "add-model": [{"model_id": 1}],
            "get-color-methods": ["solid", "morphology section"], "get-color-values": ["soma", "axon"],
            "snapshot": {"color_buffer": {"offset": 0, "size": 4}}, "render-image": {"accumulation": 1, "max_accumulation": 1},
        }  # fmt: skip
        return Reply(cases.damaged(self.rng, good.get(method), 0.08), self.rng.randbytes(self.rng.randint(0, 8)))

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        json.dumps(params, allow_nan=False)
        return self.reply(method)

    async def call_in_order(self, messages: Any, **_: Any) -> list[Reply]:
        json.dumps(messages, allow_nan=False)
        return [self.reply(method) for method, _ in messages]


def replies(rng: Random) -> None:
    """Preparing a scene and rendering a frame with a service that answers anything."""
    client: Any = Answering(rng)
    plan = a_plan()

    async def main() -> None:
        match rng.randrange(3):
            case 0:
                await scene.prepare(client, plan.specification)
            case 1:
                data = await way.Snapshot().render(client, plan, 1)
                must(len(data) <= 8, "more than came")
            case _:
                await way.OnePass().render(client, plan, 1)

    _ours(lambda: asyncio.run(main()))


@cache
def _pictures() -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {"png": [], "jpg": []}
    noise = Image.effect_noise((96, 64), 80)
    for mode in ("RGB", "RGBA", "L", "P"):
        for kind, name in (("png", "PNG"), ("jpg", "JPEG")):
            if kind == "png" or mode in ("RGB", "L"):
                target = io.BytesIO()
                noise.convert(mode).save(target, name)
                found[kind].append(target.getvalue())
    return found


def pictures(rng: Random) -> None:
    """`check_picture`: nothing but a whole picture of the right size passes, and nothing but our error is raised."""
    kind = rng.choice(("png", "jpg"))
    good = rng.choice(_pictures()[kind])
    end = {"png": b"IEND\xaeB`\x82", "jpg": b"\xff\xd9"}[kind]
    bad = cases.mutated(rng, good, [b"IHDR", b"IDAT", b"\xff\xc0", b"zTXt\0\0", b"iCCP", b"acTL", end])
    if rng.random() < 0.4:
        place = rng.randrange(len(good))
        bad = good[:place] + rng.randbytes(rng.randint(1, 4)) + good[place + rng.randint(1, 4) :]
    if kind == "png" and rng.random() < 0.5:
        bad = _with_sums(bad)
    began = time.process_time()
    _ours(lambda: check_picture(bad + rng.choice((b"", end)), (96, 64), kind))
    must(time.process_time() - began < SLOW, "a picture took too long")


def _with_sums(data: bytes) -> bytes:
    """A PNG whose chunks' sums are right again, so that what is wrong in them is reached."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        if size > len(data) or len(body) < 4:
            break
        out += data[at : at + 4] + body + (binascii.crc32(body) & 0xFFFFFFFF).to_bytes(4, "big")
        at += 12 + size
    return bytes(out)


# ---- what lies on disk --------------------------------------------------------------------------------------------------
_HEADER = {"manifest": 1, "scene": "s", "facts": {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0.0}, "way": "snapshot",
           "version": "3.10.1", "specification": {"models": []}, "measured": {"snapshot": 1.0}}  # fmt: skip
_RECORD = {"frame": 0, "key": "k", "file": "00000.png", "sha256": "0" * 64, "size": 10, "mtime": 1, "seconds": 0.1, "node": "n", "job": "7",
           "service": "s", "version": "3", "way": "snapshot", "scene": "s"}  # fmt: skip


def manifests(rng: Random) -> None:
    """A manifest that was cut, edited or made by somebody else."""
    lines = []
    for _ in range(rng.randint(1, 5)):
        good = rng.choice((_HEADER, _RECORD, {**_RECORD, "frame": 1}))
        lines.append(cases.as_json(rng, cases.damaged(rng, good, 0.1)))
    found = Manifest.read(lines)
    must(found.damaged <= len(lines), "more damage than lines")
    for frame, known in found.frames.items():
        must(isinstance(frame, int) and isinstance(known.size, int) and isinstance(known.file, str), f"{known!r}")
        must(abs(frame) < 10**12 and abs(known.size) < 10**18 and abs(known.mtime) < 10**24, f"{known!r:.200}")
    if found.header is not None:
        _ours(lambda: SceneFacts.from_plain(found.header.facts) if found.header else None)
        must(all(isinstance(one, float) for one in found.header.measured.values()), f"{found.header.measured!r:.200}")
        json.loads(found.header.line())


def stored(rng: Random) -> None:
    """What the cluster says of frames on its disk."""
    plan = a_plan()
    lines = f"opened\nline {json.dumps(_HEADER)}\nline {json.dumps(_RECORD)}\nfile 00000.png 10 1.5\nhash 00000.png {'0' * 64}\nbegun\nkept 0\nrefused 0 eA==\n"
    pieces = [b"file 00001.png \xc2\xb2 1\n", b"file 00001.png 1 nan\n", b"file 00001.png 1 \n", b"kept \xc2\xb2\n", b"busy \n", b"superseded\n", b"file 00000.png 1 1e999\n",
              b"failed eA==\n", b"unwritable \n", b"\x0bsuperseded\x0b", b"kept " + b"9" * 5000]  # fmt: skip
    answer = cases.mutated(rng, lines.encode(), pieces).decode("utf-8", "replace")
    cluster = SlurmCluster(Nowhere(answer))
    store = ClusterStore(cluster, "/frames", "/ffmpeg", "movie", "token", lambda: [Allocation(NAME, 1, "7")])

    async def main() -> None:
        if rng.random() < 0.6:
            manifest = await store.open()
            await store.survey(plan, manifest)
        else:
            from airflow_brayns.cluster_store import _Waiting

            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await store._check([_Waiting(plan, 0, Made(1, "n", "7", "s", "3", "snapshot"), future)])
            must(future.done(), "a frame that nobody told of is waited for")
            future.exception()

    if "failed " not in answer:  # that one sleeps and tries again
        _ours(lambda: asyncio.run(main()))


def encoded(rng: Random) -> None:
    """What a node says of the movie it made."""
    good = (
        "frame=3\n  Duration: 00:00:00.12, start: 0.000000, bitrate: 1 kb/s\n  Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 96x64 [SAR 1:1], 25 fps\n"
        f"frame=3\nsha256 {'0' * 64} 9\nmovie made\n"
    )  # fmt: skip
    pieces = [b"Duration: 1:1:1.1.1", b"frame=" + b"9" * 5000, b"frame=\xc2\xb2\n", b"Duration: 99:99:.", "٣".encode()]
    text = cases.mutated(rng, good.encode(), pieces).decode("utf-8", "replace")
    if rng.random() < 0.05:
        text = (rng.choice(("Stream #0:0", "Duration: 1:", ": Video: a", "frame=1")) * 10_000)[:65536]
    sources = cluster_encode.Sources("/f", a_plan(), "/ffmpeg")
    began = time.process_time()
    _ours(lambda: cluster_encode._read(text, "/x/movie.mp4", sources, 25.0))
    must(time.process_time() - began < SLOW, f"{time.process_time() - began:.1f} s for {text[:80]!r}")


# ---- what people write --------------------------------------------------------------------------------------------------
SPECIFICATION: dict[str, Any] = {
    "version": 1, "models": [{"path": "/a.obj", "loader": "mesh", "properties": {"a": 1, "b": [1, {"c": None}]}, "color": [1, 0, 0]}],
    "lights": [{"kind": "directional", "intensity": 1.0, "direction": [0, 0, -1]}], "renderer": {"name": "interactive", "samples_per_pixel": 1},
    "resolution": [96, 64], "fps": 25.0, "frames": 10, "frame_range": [0, 9], "output": "movie.mp4", "crf": 20,
    "camera": {"path": "turntable", "turns": 1.0, "elevation": 10.0, "distance": 3.0, "margin": 1.0, "target": [0, 0, 0], "fovy": 45.0},
}  # fmt: skip
_KEYFRAMES = {"path": "keyframes", "keyframes": [{"frame": 0, "position": [0, 0, 3], "target": [0, 0, 0]}, {"frame": 9, "position": [1, 0, 3], "target": [0, 0, 0], "fovy": 60}]}  # fmt: skip


def specifications(rng: Random) -> None:
    """A specification in JSON or YAML with anything in it: refused by name, or one that can be planned, hashed and sent."""
    good = {
        **SPECIFICATION,
        **rng.choice(
            ({}, {"camera": _KEYFRAMES}, {"frames": None, "frame_range": None, "simulation": {"start": 0, "end": 5}})
        ),
    }
    content = cases.damaged(rng, good, 0.05)
    began = time.process_time()
    if rng.random() < 0.5:
        text = cases.as_json(rng, content)
        if rng.random() < 0.2:
            text = (
                rng.choice(
                    (
                        "a: &a [*a]",
                        "!!python/object:os.system x",
                        "? [a]\n: b",
                        "2020-01-01: 1",
                        "<<: {}",
                        "%YAML 9\n---\n",
                    )
                )
                + text
            )
        spec = _ours(lambda: MovieSpecification.read(text, folder=Path("/x")))
    else:
        spec = _ours(lambda: MovieSpecification.check(content, folder=Path("/x")))
    must(time.process_time() - began < SLOW, f"reading took {time.process_time() - began:.1f} s")
    if spec is None:
        return
    plain = spec.plain()
    must(
        MovieSpecification.check(json.loads(json.dumps(plain, allow_nan=False))) == spec,
        f"not read back: {plain!r:.300}",
    )
    scene_hash(spec)
    json.dumps([one.loader_properties for one in spec.models], allow_nan=False)
    for model in spec.models:
        model.path.encode()
    spec.output.encode()
    total = spec.frames or 0
    plan = Plan(spec, SceneFacts.read(*FACTS), "scene")
    for frame in {0, total // 2, max(0, total - 1)} if total else ():
        pose = plan.pose(frame)
        must(
            all(math.isfinite(one) for one in (*pose.position, *pose.target, *pose.up, pose.fovy)),
            f"{pose!r} of {plain!r:.400}",
        )
    if spec.simulation is not None:
        _ours(lambda: plan.total)


_FIELDS: dict[str, Any] = {
    "scheduler": "slurm", "ssh_conn_id": "ssh", "account": "proj3", "partition": "prod", "qos": "q", "constraint": "cpu", "reservation": "r", "gres": "gpu:1",
    "cpus_per_task": 72, "memory": "4G", "exclusive": True, "time_limit": "1:00:00", "sbatch_options": ["--licenses=x"], "executable": "braynsService",
    "setup": "module load x", "environment": {"A": "b"}, "container": "", "generation": 3, "log_level": "info", "max_clients": 4, "port": "0",
    "node_suffix": ".x", "route": "ssh", "state_dir": "~/x", "poll_interval": 5.0, "idle_limit": 60.0, "start_timeout": 60.0, "queue_timeout": 60.0,
    "packing": "one_job", "min_ready": 1,
}  # fmt: skip


def fields(rng: Random) -> None:
    """A connection's extras: refused by name, or settings of which everything can be made."""
    chosen = {name: _FIELDS[name] for name in rng.sample(sorted(_FIELDS), rng.randint(0, 5))}
    extras = cases.damaged(rng, chosen, 0.3)
    if not isinstance(extras, dict):
        return
    try:
        settings = ClusterSettings.read(extras)
    except InvalidSetting as error:
        must(error.field or "" in extras, f"no field for {extras!r:.200}")
        must(len(str(error)) < 100_000, f"an error of {len(str(error))} characters")
        return
    settings.request(2).sbatch_arguments()
    for command in service_commands(settings, ["braynsDTI"], 2):
        command.script.encode()
    keeper = settings.keeper()
    must(all(0 < one < 2**31 for one in (keeper.idle_limit, keeper.start_timeout)), f"{keeper!r}")
    must(
        math.isfinite(settings.poll_interval) and settings.poll_interval < 2**31,
        f"poll_interval {settings.poll_interval}",
    )
    json.dumps(settings.model_dump(mode="json"), allow_nan=False)
    shell = Nowhere()
    cluster = _ours(lambda: SlurmCluster(shell, state_dir=settings.state_dir, node_suffix=settings.node_suffix))
    _ours(lambda: cluster and asyncio.run(cluster.look([Waiter(NAME, 1)], patience=settings.poll_interval)))


_NESTED = ("[", "{", "(", "-", "not ", "1+", "a.", "[1", '{"a":', "lambda:", "~", "[[", "f'{", "*", "'\\")


def templated(rng: Random) -> None:
    """Lists and dicts that came through a template as text, bookings and endpoints from XCom."""
    match rng.randrange(5):
        case 0:
            piece = rng.choice(_NESTED)
            text = (
                rng.choice(("[", "{", "", "("))
                + piece * rng.choice((3, 90, 200, 3000, 60_000))
                + rng.choice(("", "1]", "]", "}"))
            )
        case 1:
            text = cases.as_json(rng, cases.value(rng))
        case 2:
            text = repr(cases.value(rng))
        case _:
            text = cases.text(rng)
    began = time.process_time()
    literal(text)
    must(time.process_time() - began < 2 * SLOW, f"{text[:60]!r} took {time.process_time() - began:.1f} s")
    endpoint = rng.choice((text, f"{text}:5000", "h" * 300 + ":1", "a..b:5", "h:٣", "[::1]:5", "h:00080"))
    try:
        host, port = parse_endpoint(endpoint)
        must(0 < port < 65536 and host.isascii() and not set(host) & set(" /@?#\n\0"), f"{endpoint[:80]!r} is {host!r}")
        host.encode("idna")
    except InvalidSetting:
        pass
    booking_of = _airflow_layer()
    good = {"name": NAME, "allocations": [Allocation(NAME, 1, "7").to_json()]}
    found = booking_of(cases.as_json(rng, cases.damaged(rng, good, 0.2)))
    if found is not None:
        news(AllocationStatus(*found.allocations[0].key) if found.allocations else AllocationStatus("x", 1), 1)


@cache
def _airflow_layer() -> Callable[[Any], Any]:
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_brayns.operators.base import booking_of, whole_number, word_list
    from airflow_brayns.operators.fields import seconds_of

    def all_of(value: Any) -> Any:
        for take in (word_list, whole_number, seconds_of):
            for one in (value, literal(value)):
                found = _ours(lambda take=take, one=one: take("field", one))
                must(not isinstance(found, float) or math.isfinite(found), f"{found} seconds")
        try:
            return booking_of(value)
        except AirflowFailException:
            return None

    return all_of


READERS: dict[str, Case] = {
    "said": said, "status": status, "answers": answers, "framed": framed, "ports": ports, "logs": logs, "facts": facts, "replies": replies, "pictures": pictures,
    "manifests": manifests, "stored": stored, "encoded": encoded, "specifications": specifications, "fields": fields, "templated": templated,
}  # fmt: skip
