"""A file system that shows each side the other's files a minute late, as NFS with its caches may.

What it stands for: a client that has looked at a folder believes what it saw for up to `acdirmax` = 60 s. There is no NFS in the
test cluster, so a node gets a copy of the state folder, mounted over it in its own namespace, and what one side writes is
written into the other's a minute after. Until the keeper has made its `claim` the node has not looked, and sees all at once.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from tests.support.cluster import USER
from tests.system.faults.bench import HOME, Bench
from tests.system.faults.people import GIVEN_BACK, marked
from tests.system.faults.table import Fault, Row, Scene

NODE = "r1i1n1"
SECONDS = 60.0


class LateView:
    """Two folders, each of which becomes what the other was a minute ago."""

    def __init__(self, ours: Path, theirs: Path) -> None:
        self.ours, self.theirs = ours, theirs
        self._known: dict[Path, dict[str, tuple[int, int]]] = {ours: {}, theirs: {}}
        self._coming: list[tuple[float, Path, str, bytes | None]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._end.wait(0.05):
            self._note(self.ours, self.theirs)
            self._note(self.theirs, self.ours)
            now = time.time()
            due, self._coming = [e for e in self._coming if e[0] <= now], [e for e in self._coming if e[0] > now]
            for _, target, name, content in due:
                self._write(target, name, content)

    def _note(self, source: Path, target: Path) -> None:
        """What has changed on one side since the last look."""
        known, found = self._known[source], {}
        for path in source.rglob("*"):
            try:
                status = path.stat()
            except OSError:
                continue
            found[str(path.relative_to(source))] = (0, 0) if path.is_dir() else (status.st_mtime_ns, status.st_size)
        for name in [one for one in found if known.get(one) != found[one]] + [one for one in known if one not in found]:
            path = source / name
            try:
                content = path.read_bytes() if path.is_file() else b"/" if path.is_dir() else None
            except OSError:
                continue
            allocation = "/".join(name.split("/")[:2])
            at_once = source is self.ours and not (self.theirs / allocation / "claim").exists()
            self._coming.append((0.0 if at_once else time.time() + SECONDS, target, name, content))
        self._known[source] = found

    def _write(self, target: Path, name: str, content: bytes | None) -> None:
        """Make it so on the other side, without noting it as that side's own."""
        path, known = target / name, self._known[target]
        if content is None:
            path.unlink(missing_ok=True) if not path.is_dir() else shutil.rmtree(path, ignore_errors=True)
            known.pop(name, None)
        elif content == b"/":
            if not path.is_dir():
                path.mkdir(parents=True)
                shutil.chown(path, USER)
            known[name] = (0, 0)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = target.parent / f"{target.name}.new"
            new.write_bytes(content)
            shutil.chown(new, USER)
            new.replace(path)
            status = path.stat()
            known[name] = (status.st_mtime_ns, status.st_size)


_views: list[LateView] = []


def begin(bench: Bench) -> None:
    for folder in (HOME / "late", HOME / "late-seen"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.chown(folder, USER)
    bench.cluster.run(NODE, "mount", "--bind", str(HOME / "late-seen"), str(HOME / "late"))
    _views.append(LateView(HOME / "late", HOME / "late-seen"))


def end(scene: Scene) -> None:
    scene.bench.on(NODE, "umount", "-l", str(HOME / "late"))
    _views.pop().stop()


def both(scene: Scene) -> None:
    """One goes on; the other is marked failed."""
    marked("failed")(Scene(scene.bench, {"starting": scene.runs["starting"]})) if "starting" in scene.runs else None


CONF = {
    "state_dir": str(HOME / "late"),
    "sbatch_options": [f"--nodelist={NODE}"],
    "idle_limit": 200,
    "start_timeout": 150,
}

FAULTS = [
    Fault(
        "files_a_minute_late",
        both,
        (
            Row("asking", "success/success", "is usable at", conf=CONF, deadline=260),
            Row("starting", "failed/failed", GIVEN_BACK, conf=CONF, deadline=260),
        ),
        before=begin,
        after=end,
    )
]  # fmt: skip
