"""`python -m tests.fuzz`: every hostile value and every fuzzer at scale. The last line is `N inputs, N executed, N findings`.

HOSTILE_INPUTS values (100000) go through shells, sbatch, paths, messages and templates; each fuzzer of what comes back runs for
FUZZ_SECONDS (600), FUZZ_JOBS of them at once (one for each processor). `--seed N` repeats a run, `--only NAME…` does a part.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import secrets
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from random import Random

MEMORY = 6 << 30  # bytes of address space that a fuzzer may use
HANGS = 120.0  # seconds after which a batch counts as hung
POOL = 300
_LONG_EVERY, _LOCAL_EVERY = {"stores": 50, "encodings": 50}, 25  # rounds; a shell reads such a line byte by byte


@dataclass
class Line:
    """What one fuzzer tells."""

    name: str
    seconds: float = 0.0
    inputs: int = 0
    executed: int = 0
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """As it is printed."""
        return f"{self.name:<16}{self.seconds:8.1f} s {self.inputs:>10} inputs {len(self.findings):>5} findings"


def send(seed: int, inputs: int) -> list[Line]:
    """Hostile values through every sender, in rounds, until there were so many."""
    from tests.fuzz import cases
    from tests.fuzz.bench import Bench
    from tests.fuzz.senders import ALL

    lines = {name: Line(name) for name in ALL}
    number = 0
    with Bench() as bench:
        while sum(line.inputs for line in lines.values()) < inputs:
            rng = Random(f"{seed} send {number}")
            pool = cases.texts(rng, POOL, bench.canary)
            long = cases.long_text(rng, bench.canary)
            for name, (sender, share) in ALL.items():
                faulthandler.dump_traceback_later(HANGS, exit=True)
                line, began = lines[name], time.monotonic()
                told, executed = len(bench.tally.findings), bench.tally.executed
                wanted = 1 if name == "local services" and number % _LOCAL_EVERY == 0 else share
                if wanted:
                    values = rng.sample(pool, wanted)
                    if number % _LONG_EVERY.get(name, 10) == 0 and wanted > 1:
                        values[0] = long
                    line.inputs += sender(bench, rng, values)
                bench.count_executed()
                line.executed += bench.tally.executed - executed
                line.findings += [f"round {number}: {one}" for one in bench.tally.findings[told:]]
                line.seconds += time.monotonic() - began
            number += 1
    faulthandler.cancel_dump_traceback_later()
    return list(lines.values())


def fuzz(name: str, seed: int, seconds: float) -> Line:
    """One fuzzer, for so long."""
    from tests.fuzz.readers import READERS
    from tests.fuzz.servers import SERVERS

    line, began, seen = Line(name), time.monotonic(), set()
    while time.monotonic() - began < seconds:
        number = line.inputs
        rng = Random(f"{seed} {name} {number}")
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            if name in SERVERS:
                done, found = SERVERS[name](rng)
                line.inputs += done
                line.findings += [f"input {number}: {one}" for one in found]
                continue
            line.inputs += 1
            READERS[name](rng)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = (type(error).__name__, last.name, last.lineno, str(error)[:20])
            text = f"input {number}: {type(error).__name__}: {str(error)[:400]} ({last.filename}:{last.lineno})"
            if kind not in seen:
                seen.add(kind)
                line.findings.append(text)
    faulthandler.cancel_dump_traceback_later()
    line.seconds = time.monotonic() - began
    return line


def part(name: str, seed: int, seconds: float, inputs: int) -> list[Line]:
    """A part in a process of its own: one that takes its process down is a finding too."""
    command = [sys.executable, "-m", "tests.fuzz", "--part", name, "--seed", str(seed)]
    variables = {**os.environ, "FUZZ_SECONDS": str(seconds), "HOSTILE_INPUTS": str(inputs)}
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    try:
        lines = [Line(**one) for one in json.loads(done.stdout.splitlines()[-1])]
    except (IndexError, ValueError):
        why = f"the process ended with {done.returncode}: {done.stderr[-3000:]}"
        lines = [Line(name, time.monotonic() - began, 0, 0, [why])]
    for line in lines:
        print(line.text(), flush=True)
        for finding in line.findings[:20]:
            print(f"    {finding}", flush=True)
    return lines


def main() -> int:
    """The whole run, or one part of it."""
    from tests.fuzz.readers import READERS
    from tests.fuzz.servers import SERVERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    inputs = int(os.environ.get("HOSTILE_INPUTS", "100000"))
    if asked.part:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        out = os.dup(1)
        os.dup2(2, 1)  # what the code under test prints is no answer
        found = send(asked.seed, inputs) if asked.part == "send" else [fuzz(asked.part, asked.seed, seconds)]
        os.write(out, (json.dumps([asdict(line) for line in found]) + "\n").encode())
        return 0
    names = [name for name in ("send", *READERS, *SERVERS) if not asked.only or name in asked.only]
    print(f"seed {asked.seed}", flush=True)
    with ThreadPoolExecutor(int(os.environ.get("FUZZ_JOBS", os.cpu_count() or 1))) as pool:
        lines = [
            line for lines in pool.map(lambda name: part(name, asked.seed, seconds, inputs), names) for line in lines
        ]
    executed = sum(line.executed for line in lines)
    findings = sum(len(line.findings) for line in lines)
    print(f"{sum(line.inputs for line in lines)} inputs, {executed} executed, {findings} findings")
    return 1 if executed or findings else 0


if __name__ == "__main__":
    sys.exit(main())
