"""What `make demo` shows: which step is under way and how far, one line for each; all that Airflow says goes to a file.

The line of the step under way is written again each second, so something moves whatever Airflow is silent about. Only what this
package logs is shown, as it stands there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

HERE = Path.cwd()  # the project, where `demo.sh` goes
STEPS = {
    "check": "check",
    "brayns": "start services",
    "render": "render",
    "encode": "encode",
    "brayns_done": "all done?",
    "brayns_release": "give back",
}
# As Airflow prints them: time, level, what is said, who says it
LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<said>.*?) *\[(?P<who>[\w.]+)\](?: \w+=|$)")
TASK = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
MOST_WARNINGS = 8


class Steps:
    """One line for each step, that of the last one alive.

    :param out: where to; a terminal's line is written again and again, in a file each step has one line.
    """

    def __init__(self, out: TextIO) -> None:
        self._out, self._terminal = out, out.isatty()
        self._what, self._said, self._began, self._warnings = "", "", 0.0, 0

    def begin(self, what: str) -> None:
        """Another step; the one before has ended."""
        self.end()
        self._what, self._said, self._began = what, "", time.monotonic()
        self.draw()

    def said(self, text: str) -> None:
        """What is known of the step now."""
        self._said = text

    def warn(self, text: str) -> None:
        """A line that stays."""
        self._warnings += 1
        if self._warnings <= MOST_WARNINGS:
            self._write(f"  ! {text}", over=True)

    def draw(self) -> None:
        """The step under way, as it stands."""
        if self._what and self._terminal:
            self._write(self._text(), over=False)

    def end(self) -> None:
        """The step's line stays as it stands."""
        if self._what:
            self._write(self._text(), over=True)
        self._what = ""

    def _text(self) -> str:
        took = duration(time.monotonic() - self._began)
        return f"  {self._what:14} {took:>11}  {self._said}".rstrip()

    def _write(self, text: str, *, over: bool) -> None:
        if self._terminal:  # to the first column, and what stood there goes; a line that wraps would stay
            width = shutil.get_terminal_size().columns
            self._out.write("\x1b[1G\x1b[K" + (text if over else text[: max(width - 1, 20)]))
        else:
            self._out.write(text)
        self._out.write("\n" if over else "")
        self._out.flush()


def duration(seconds: float) -> str:
    """`12 s`, `1 min 05 s`."""
    whole = int(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def read(line: str, steps: Steps) -> None:
    """Show what a line of the log is about, if it is for people."""
    if task := TASK.search(line):
        steps.begin(STEPS.get(task[1], task[1]))
    elif (found := LINE.match(line)) and "airflow_brayns" in found["who"]:
        steps.said(found["said"])
        if found["level"] in ("warning", "error", "critical"):
            steps.warn(found["said"])


def follow(command: list[str], log: Path, steps: Steps) -> int:
    """Run a command to its end, and show what it logs; its exit code. Ctrl-C goes to it, too, and its end is awaited."""
    with log.open("ab") as written, log.open(encoding="utf-8", errors="replace") as told:
        told.seek(0, os.SEEK_END)
        rest = ""
        with subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as child:
            while True:
                ended = child.poll() is not None
                *lines, rest = (rest + told.read()).split("\n")
                for line in lines:
                    read(line, steps)
                steps.draw()
                if ended:
                    return int(child.returncode)
                try:
                    child.wait(1)
                except subprocess.TimeoutExpired:
                    pass
                except KeyboardInterrupt:
                    steps.said("it stops, and gives back what it holds")


def shown(path: Path) -> str:
    """A path as somebody in the project's folder types it."""
    return str(path.relative_to(HERE)) if path.is_relative_to(HERE) else str(path)


def made(movie: Path) -> str:
    """What lies there now, how to look at it, and what next."""
    beside = [(movie, "the movie"), (movie.with_suffix(".poster.jpg"), "a picture of it"),
              (movie.with_suffix(".sheet.jpg"), "frames of it on one sheet")]  # fmt: skip
    files = [f"  {shown(path):24} {what}, {path.stat().st_size / 1e6:.1f} MB" for path, what in beside if path.exists()]
    folder = shown(movie.parent)
    return "\n".join([
        *files,
        "Look at it:",
        f"  xdg-open {shown(movie)}, or in a browser {movie.as_uri()}",
        f"  without a screen: python3 -m http.server -d {folder} 8000, then http://{os.uname().nodename}:8000/{movie.name}",
        "What next:",
        "  another movie            edit dags/movies/neuron.yaml (docs/specification.rst), make demo",
        "  a DAG of your own        README.md, 'A first DAG of your own'",
        "  the same on your cluster README.md, 'On your cluster'",
        "  the page in Airflow's UI docs/page.rst; AIRFLOW_HOME=build/airflow AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags "
        ".venv/bin/airflow standalone, then http://localhost:8080/plugin/brayns",
    ])  # fmt: skip


def main(conf: str) -> int:
    """The whole demo; its exit code."""
    log = HERE / "build" / "demo.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    movie = HERE / (json.loads(conf).get("output") or "out/movie.mp4")
    began, since, steps = time.time(), time.monotonic(), Steps(sys.stdout)
    print(f"A movie by the DAG brayns_movie on this machine. Each step in full: {shown(log)}", flush=True)
    steps.begin("database")
    code = follow(["airflow", "db", "migrate"], log, steps)
    if code == 0:
        steps.begin("Airflow")
        code = follow(["airflow", "dags", "test", "brayns_movie", "-c", conf], log, steps)
    steps.end()
    took = duration(time.monotonic() - since)
    if code or not movie.exists() or movie.stat().st_mtime < began - 1:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        print(f"No movie was made, after {took}. {shown(log)} ends with:\n{last}")
        return code or 1
    print(f"Made in {took}:\n{made(movie)}\n{shown(movie)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
