"""Faults of the state folder on the cluster's file system."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import NODES, USER
from tests.system.faults.bench import HOME, Bench
from tests.system.faults.table import Fault, Row, Scene

MACHINES = ("login", *NODES)


def disk(name: str) -> Path:
    return HOME / f"disk-{name}"


def mount(name: str) -> Callable[[Bench], None]:
    """A small disk that every machine sees as one file system."""

    def act(bench: Bench) -> None:
        image, folder = HOME / f"{name}.img", disk(name)
        folder.mkdir(exist_ok=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={image}", "bs=1M", "count=6"], check=True, capture_output=True)
        subprocess.run(["mkfs.ext2", "-q", "-F", "-m", "0", "-N", "4000", image], check=True)
        device = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True).stdout
        (HOME / f"{name}.device").write_text(device)
        for machine in MACHINES:
            bench.cluster.run(machine, "mount", device.strip(), str(folder))
        bench.cluster.run("login", "chown", USER, str(folder))

    return act


def unmount(name: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        for machine in MACHINES:
            scene.bench.on(machine, "umount", "-l", str(disk(name)))
        subprocess.run(["losetup", "-d", (HOME / f"{name}.device").read_text().strip()], check=False)

    return act


def full(scene: Scene) -> None:
    filler = f"{disk('full')}/filler"
    scene.bench.on("login", "dd", "if=/dev/zero", f"of={filler}", "bs=4096")
    time.sleep(25)
    scene.bench.on("login", "rm", "-f", filler)


def readonly(scene: Scene) -> None:
    folder = str(disk("readonly"))
    scene.bench.on("login", "mount", "-o", "remount,ro", folder)
    time.sleep(25)
    scene.bench.on("login", "mount", "-o", "remount,rw", folder)


def deleted(scene: Scene) -> None:
    shutil.rmtree(HOME / "deleted")


def conf(folder: Path) -> dict[str, object]:
    return {"state_dir": str(folder), "idle_limit": 100}


FAULTS = [
    Fault(
        "state_folder_full",
        full,
        tuple(
            Row(stage, "success/success", ".", jobs=(1, 2), deadline=150, conf=conf(disk("full")))
            for stage in ("submitting", "pending", "starting", "waiting", "rendering")
        ),
        before=mount("full"),
        after=unmount("full"),
    ),
    Fault(
        "state_folder_read_only",
        readonly,
        tuple(
            Row(stage, "success/success", ".", jobs=(1, 2), deadline=150, conf=conf(disk("readonly")))
            for stage in ("submitting", "pending", "starting", "waiting", "rendering")
        ),
        before=mount("readonly"),
        after=unmount("readonly"),
    ),
    Fault(
        "state_folder_deleted",
        deleted,
        (
            *(
                Row(stage, "success/success", "has gone", jobs=(2, 2), conf=conf(HOME / "deleted"))
                for stage in ("pending", "starting", "waiting")
            ),
            Row("rendering", "failed/failed", "has gone", conf=conf(HOME / "deleted")),
        ),
    ),
]
