"""`make faults`: every fault at every stage; prints the table and keeps `build/faults.json`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from threading import Condition, Lock

from tests.support.cluster import USER
from tests.system.faults import airflow_parts, folder, late, machines, nodes, people, second, services, shared, use
from tests.system.faults.bench import Bench, bench
from tests.system.faults.report import HEAD, compared, keep, known, last_line, line
from tests.system.faults.table import Fault, Outcome, Row, play
from tests.system.faults.watch import at_the_login_node

FAULTS: list[Fault] = [
    *services.FAULTS,
    *use.FAULTS,
    *nodes.FAULTS,
    *folder.FAULTS,
    *late.FAULTS,
    *people.FAULTS,
    *second.FAULTS,
    *airflow_parts.FAULTS,
    *machines.FAULTS,
    *shared.FAULTS,
]
# Quick and telling: what CI runs.
DOZEN = (
    "worker_killed/submitting",
    "worker_killed/waiting",
    "service_killed/starting",
    "exits_0/asking",
    "port_stolen/asking",
    "port_shared/starting",
    "port_0_beside/asking",
    "cancelled_by_an_admin/pending",
    "cancelled_by_an_admin/waiting",
    "state_folder_deleted/starting",
    "marked_failed/pending",
    "cleared/waiting",
)


def chosen(patterns: Sequence[str]) -> list[tuple[Fault, list[Row]]]:
    """Faults with those of their rows that are asked for, by `fault`, `fault/stage` or patterns of these; nothing: all."""

    def wanted(fault: Fault, row: Row) -> bool:
        name = f"{fault.name}/{row.stage}"
        return not patterns or any(fnmatchcase(name, one) or fnmatchcase(fault.name, one) for one in patterns)

    names = [name for fault in FAULTS for row in fault.rows for name in (fault.name, f"{fault.name}/{row.stage}")]
    if unknown := [one for one in patterns if not any(fnmatchcase(name, one) for name in names)]:
        raise SystemExit(f"no such rows: {', '.join(unknown)}; --list names them")
    picked = [(fault, [row for row in fault.rows if wanted(fault, row)]) for fault in FAULTS]
    return [(fault, rows) for fault, rows in picked if rows]


class Room:
    """For so many runs side by side; those of a fault come together."""

    def __init__(self, runs: int) -> None:
        self._runs, self._used, self._change = runs, 0, Condition()

    @contextmanager
    def for_runs(self, number: int) -> Iterator[None]:
        with self._change:
            self._change.wait_for(lambda: self._used == 0 or self._used + number <= self._runs)
            self._used += number
        try:
            yield
        finally:
            with self._change:
                self._used -= number
                self._change.notify_all()


def run(one: Bench, picked: list[tuple[Fault, list[Row]]], jobs: int) -> list[Outcome]:
    """Side by side what can be, then one by one what hits everything."""
    outcomes: list[Outcome] = []
    room, keeping = Room(jobs), Lock()

    def do(fault: Fault, rows: list[Row]) -> None:
        lock = one.nodes[fault.node] if fault.node else nullcontext()
        with lock, room.for_runs(len(rows)):
            found = play(one, fault, rows)
        with keeping:
            outcomes.extend(found)
            keep(found)
        print("\n".join(line(outcome) for outcome in found), flush=True)

    print(HEAD, flush=True)
    beside = [(fault, rows) for fault, rows in picked if not fault.alone]
    pool = ThreadPoolExecutor(max(1, len(beside)))
    for done in [pool.submit(do, fault, rows) for fault, rows in beside]:
        done.result()
    for fault, rows in picked:
        if fault.alone:
            do(fault, rows)
    outcomes.append(at_the_end(one))
    print(line(outcomes[-1]), flush=True)
    return outcomes


def at_the_end(one: Bench) -> Outcome:
    """Nothing on any machine that is anybody's of ours, counted without regard to names."""
    found = Outcome("at_the_end", "all", "", got="", allowed=(0, 10**6), deadline=60, reads="nothing", read=True)
    began = time.time()
    while (
        left := [*one.cluster.left(), *at_the_login_node(one.cluster, USER)]
    ) and time.time() - began < found.deadline:
        time.sleep(1)
    found.left, found.clean_after = left, None if left else time.time() - began
    found.jobs = one.cluster.jobs_ever()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW", default=[], help="faults, or rows `fault/stage`; patterns")
    parser.add_argument("--dozen", action="store_true", help="the rows that CI runs")
    parser.add_argument("--jobs", type=int, default=10, metavar="N", help="how many runs side by side (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    options = parser.parse_args()
    picked = chosen(DOZEN if options.dozen else options.only)
    if options.list:
        print("\n".join(f"{fault.name}/{row.stage}" for fault, rows in picked for row in rows))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was brought up is taken down
    began, before = time.monotonic(), known()
    try:
        with bench() as one:
            print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
            outcomes = run(one, picked, options.jobs)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)  # rows that are under way in threads of their own are not waited for
    print(f"in {(time.monotonic() - began) / 60:.1f} minutes")
    print(compared(outcomes, before))
    print(last_line(outcomes))
    return int(any(one.left or one.doubled or one.wrong for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
