"""A service's log, and what anybody says that goes into one, damaged."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns.brayns.command import PORT_PATTERNS
from airflow_brayns.brayns.readiness import NotYet, ended_early
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.scripts import file_text
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import BraynsError, InvalidSetting, RpcFailed
from airflow_brayns.errors.plain import LONGEST, one_line, plain
from airflow_brayns.services.service_log import MOST_WARNINGS
from airflow_brayns.services.session import Session
from airflow_brayns.services.watch import AllocationWatch
from tests.fuzz import cases
from tests.fuzz.readers.checks import SLOW, UNSEEN, can_be_kept, must, ours, plain_settings
from tests.fuzz.senders.common import NAME
from tests.support.shell import FakeShell

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
    """How the wrapper finds ports in a log, as it stands in port.sh."""
    found = re.search(r"^named_ports\(\) \{.*?^\}$", file_text("port"), re.MULTILINE | re.DOTALL)
    must(found, "port.sh has no function named_ports")
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
    """The way of a watch with logs, and why a service ended: quick, bounded, and told in one piece."""
    data = log_lines(rng)[:65536]
    if rng.random() < 0.1:
        data = (rng.choice(_LOG_PIECES) * 65536)[:65536]
    session = Session(Poller(SlurmCluster(FakeShell()), 1), plain_settings(), quiet := _Quiet())
    watch = AllocationWatch(session, Allocation(NAME, 1, "7"), ("braynsDTI",))
    service = ServiceStatus("s1", "n1", None, rng.choice((None, 0, 1, 98, 127, 139)), cases.text(rng))
    found = AllocationStatus(NAME, 1, services=(service,))
    began = time.process_time()
    for _ in range(2):
        watch._show_logs({"s1": data.decode("utf-8", "replace")}, found)
    ours(lambda: watch.check(service))
    ended_early(1, cases.text(rng), watch.log_of(service), ["x"])
    must(
        time.process_time() - began < SLOW,
        f"a log of {len(data)} bytes took {time.process_time() - began:.1f} s: {data[:100]!r}",
    )
    must(not any(set(line) & UNSEEN for line in quiet.lines), "a line with what is not seen")
    must(not any(len(line.splitlines()) > 1 for line in quiet.lines), "one line that reads as several")
    must(len(quiet.lines) <= 2 * MOST_WARNINGS, "more lines than a log can bear")
    must(sum(len(one.end) for one in watch._logs.values()) <= 8192, "more is kept than said")


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
