"""`make chaos`: DAG runs under kills, part by part; keeps `build/chaos/parts.jsonl` and sums up all parts."""

from __future__ import annotations

import argparse
import random
import signal
import sys
from pathlib import Path

from tests.system.chaos.part import FOLDER, play
from tests.system.chaos.parts import keep, numbers, read, summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="DAG runs in all parts together (%(default)s)")
    parser.add_argument("--at-once", type=int, default=24, metavar="N", help="going on at a time (%(default)s)")
    parser.add_argument("--seed", type=int, help="of this part; another one each time if not given")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="end this part after so long")
    parser.add_argument(
        "--every", type=float, default=3.0, metavar="S", help="a kill every so many seconds (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", metavar="KIND", default=[], help="kinds of kills; else all")
    parser.add_argument(
        "--part", type=Path, default=FOLDER / "parts.jsonl", metavar="FILE", help="what came of the parts"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is taken down, and kept
    left = options.runs - numbers(read(options.part))[0]
    if left > 0:
        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
        part = play(seed, left, options.at_once, options.seconds, options.every, options.only)
        keep(part, options.part)
    parts = read(options.part)
    print(summary(parts))
    return int(any(numbers(parts)[1:]))


if __name__ == "__main__":
    sys.exit(main())
