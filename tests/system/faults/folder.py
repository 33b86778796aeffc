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
        there = f"mountpoint -q {folder}"
        for machine in MACHINES:  # one that another row has switched off comes back
            command = f"{{ {there} || mount {device.strip()} {folder}; }} && {there} && echo there"
            bench.until(
                lambda at=machine, do=command: bench.on(at, "sh", "-c", do).strip() == "there",
                120,
                f"{machine} mounts {folder}",
            )
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


def fill_up(bench: Bench, name: str) -> None:
    """To its last block."""
    bench.on("login", "dd", "if=/dev/zero", f"of={disk(name)}/filler", "bs=1024")


def make_room(bench: Bench, name: str) -> None:
    bench.on("login", "rm", "-f", f"{disk(name)}/filler")


def full_before(bench: Bench) -> None:
    mount("crowded")(bench)
    fill_up(bench, "crowded")


def room_again(scene: Scene) -> None:
    make_room(scene.bench, "crowded")


def full_at_work(scene: Scene) -> None:
    """Whatever is under way goes on in the full folder: sbatch takes a job, a service starts, nodes are given back."""
    fill_up(scene.bench, "narrow")
    for run in scene:
        run.go_on()
    time.sleep(14)
    make_room(scene.bench, "narrow")


def released_in_full(scene: Scene) -> None:
    fill_up(scene.bench, "packed")
    run = scene.only
    run.gate.touch()
    scene.bench.until(lambda: not scene.bench.watch.left(run.names), 60, "it is given back in the full folder")
    make_room(scene.bench, "packed")


def cut_short(scene: Scene) -> None:
    """As a quota does it: the end of what is to be run is missing."""
    for run in scene:
        for name in run.names:
            [command] = Path(f"/home/{USER}/.airflow-brayns").glob(f"{name}000/1/services/*/command")
            command.write_bytes(command.read_bytes()[:-20])


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
        "state_folder_full_before",
        room_again,
        (
            Row("told", "success/success", "state_dir: .* is full on the cluster", deadline=150, dag_id="faults_patient",
                conf=conf(disk("crowded"))),
        ),
        before=full_before,
        after=unmount("crowded"),
    ),
    Fault(
        "state_folder_full_meanwhile",
        full_at_work,
        (
            Row("asking", "success/success", "state_dir: .* is full on the cluster", jobs=(1, 3), deadline=180,
                dag_id="faults_patient", conf=conf(disk("narrow"))),
            Row("starting", "success/success", ".", jobs=(1, 2), deadline=150, conf=conf(disk("narrow"))),
        ),
        before=mount("narrow"),
        after=unmount("narrow"),
    ),
    Fault(
        "released_in_a_full_folder",
        released_in_full,
        (Row("using", "success/success", "given back", deadline=90, conf=conf(disk("packed"))),),
        before=mount("packed"),
        after=unmount("packed"),
    ),
    Fault(
        "command_cut_short",
        cut_short,
        (Row("pending", "success/success", "cut off, or somebody changed it", jobs=(2, 2)),),
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
]  # fmt: skip
