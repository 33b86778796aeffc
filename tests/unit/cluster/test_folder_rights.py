# ruff: noqa: F811
"""Whose the state folder is: what lies there is run under our name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_brayns.cluster.files import install
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import StateFolderFull, StateFolderNotOurs
from airflow_brayns.services.settings import ClusterSettings
from tests.support.shell import ShellThrough
from tests.unit.cluster.test_keeper import NAME, SERVER, alive, service, shell, until  # noqa: F401

pytestmark = pytest.mark.slow

SOMEBODY = 12345
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another account")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Folders as on a site, all of them ours and nobody else's to write."""
    folder = tmp_path / "gpfs" / "project"
    folder.mkdir(parents=True)
    yield folder
    for one in (tmp_path / "gpfs").rglob("*"):
        if not one.is_symlink() and one.is_dir():
            one.chmod(0o700)


async def submit(state_dir: Path, **arguments: bool) -> None:
    cluster = LocalCluster(LocalShell(), state_dir=str(state_dir), **arguments)
    await cluster.submit(NAME, "a", AllocationRequest(), [])
    await cluster.release(NAME, grace=1)


async def refused(state_dir: Path, reason: str, part: Path, **arguments: bool) -> None:
    with pytest.raises(StateFolderNotOurs, match=f"(?s)state_dir: .*{re.escape(str(part))} ") as raised:
        await submit(state_dir, **arguments)
    assert (raised.value.reason, raised.value.part, raised.value.retry) == (reason, str(part), False)
    assert raised.value.remedy, "it says what to do"
    assert not (state_dir / NAME).exists(), "before anything was written"


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o722])
async def test_a_part_that_others_may_write_is_refused_by_its_name(site: Path, mode: int) -> None:
    site.chmod(mode)
    await refused(site / "a" / "state", "writable", site)
    await submit(site / "a" / "state", shared_parents=True)


@root_only
async def test_a_part_that_a_group_writes_is_refused_unless_it_is_so_on_purpose(site: Path) -> None:
    os.chown(site, -1, SOMEBODY)
    site.chmod(0o2770)
    await refused(site / "state", "writable", site)
    await submit(site / "state", shared_parents=True)


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777, 0o1770, 0o2755])
async def test_what_only_we_can_change_is_taken(site: Path, mode: int) -> None:
    site.chmod(mode)
    await submit(site / "state")
    assert (site / "state").stat().st_mode & 0o777 == 0o700


@root_only
async def test_a_part_of_somebody_else_is_refused(site: Path) -> None:
    os.chown(site, SOMEBODY, -1)
    await refused(site / "state", "owner", site)
    site.chmod(0o1777)
    await refused(site / "state", "owner", site)
    await submit(site / "state", shared_parents=True)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o2755])
async def test_a_folder_of_ours_that_others_read_becomes_private(site: Path, mode: int) -> None:
    """As 0.2.0 took it."""
    (site / "state").mkdir()
    (site / "state").chmod(mode)
    await submit(site / "state")
    assert (site / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777])
async def test_the_folder_itself_is_never_one_that_others_write(site: Path, mode: int, shared: bool) -> None:
    (site / "state").mkdir()
    (site / "state").chmod(mode)
    await refused(site / "state", "writable", site / "state", shared_parents=shared)


@root_only
@pytest.mark.parametrize("shared", [False, True])
async def test_the_folder_itself_is_never_somebody_elses(site: Path, shared: bool) -> None:
    (site / "state").mkdir(mode=0o700)
    os.chown(site / "state", SOMEBODY, -1)
    await refused(site / "state", "owner", site / "state", shared_parents=shared)


async def test_links_of_ours_are_followed_and_what_they_lead_through_counts(site: Path, tmp_path: Path) -> None:
    (site / "real").mkdir()
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to("gpfs/project/../project")
    await submit(tmp_path / "one" / "real" / "state")
    site.chmod(0o777)
    shutil.rmtree(site / "real" / "state")
    await refused(tmp_path / "one" / "real" / "state", "writable", site)


@root_only
async def test_a_link_of_somebody_else_is_refused(site: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    link = tmp_path / "tmp" / "state"
    link.symlink_to(site)
    os.lchown(link, SOMEBODY, -1)
    with pytest.raises(StateFolderNotOurs) as raised:
        await submit(link)
    assert (raised.value.reason, raised.value.part) == ("link", str(link))
    link.unlink()
    link.symlink_to(link)
    with pytest.raises((StateFolderNotOurs, Exception)):
        await submit(link)


@root_only
async def test_a_right_that_an_acl_gives_shows_in_the_groups_letters(site: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("setfacl is not installed (apt-get install acl)")
    if subprocess.run(["setfacl", "-m", f"u:{SOMEBODY}:rwx", site], check=False, capture_output=True).returncode:
        pytest.skip("no ACLs on this file system")
    os.chown(site, -1, SOMEBODY)
    await refused(site / "state", "writable", site)


@root_only
@pytest.mark.parametrize(
    ("entry", "taken"),
    [("alice:x:4711:", True), ("alice:x:4711:alice", True), ("alice:x:4711:bob", False), ("users:x:4711:", False)],
)
def test_the_group_in_which_only_the_user_is_is_the_user(
    shell: ShellThrough, tmp_path: Path, entry: str, taken: bool
) -> None:
    """A home 0775 with a group of its own is common; `id` and `getent` are this machine's, so they are told what to say."""
    name = entry.partition(":")[0]
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, -1, 4711)
    home.chmod(0o775)
    fakes = f"""
id() {{ case $* in -un) echo alice ;; -gn) echo {name} ;; -g) echo 4711 ;; *) command id "$@" ;; esac; }}
getent() {{ echo {entry}; }}
mkdir -p "$state_dir"
check_folder && echo taken"""
    text = f"scheduler=local\nstate_dir={home}/state\n{script_of('files')}{fakes}"
    done = subprocess.run([*shell.command, "-s"], input=text, capture_output=True, text=True, check=False)
    assert (done.stdout == "taken\n") is taken, done


@root_only
async def test_roots_group_is_root(site: Path) -> None:
    """The Airflow image's home is 0775 of group 0."""
    os.chown(site, -1, 0)
    site.chmod(0o775)
    await submit(site / "state")


async def test_a_service_is_not_added_to_a_folder_that_others_came_to_write(site: Path) -> None:
    cluster = LocalCluster(LocalShell(), state_dir=str(site / "state"))
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [])
    try:
        site.chmod(0o777)
        with pytest.raises(StateFolderNotOurs):
            await cluster.add_service(allocation, service())
        with pytest.raises(StateFolderNotOurs):
            await install(SlurmCluster(LocalShell(), state_dir=str(site / "state")), Path(__file__))
    finally:
        assert await cluster.release(NAME, grace=1) == 1, "what is there can always be given back"


@root_only
@pytest.mark.parametrize("what", ["command", "keeper.sh", "services", "folder"])
async def test_in_a_shared_project_nothing_that_somebody_exchanged_is_run(
    site: Path, tmp_path: Path, what: str
) -> None:
    """The folder above is the group's on purpose; somebody of it puts a folder of the same name in the place of ours."""
    site.chmod(0o777)
    cluster = LocalCluster(LocalShell(), state_dir=str(site / "state"), shared_parents=True)
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [])
    await until(cluster, lambda s: bool(s.nodes))
    copy = tmp_path / "copy"
    # All of it, with a service that asks for it and a proof that fits: the digest that went with the job is not there.
    shutil.copytree(site / "state", copy)
    there = copy / NAME / "1" / "services" / "s1"
    there.mkdir(parents=True)
    for name, text in {"index": "1\n", "port": "0\n", "port.sed": "", "command": f"touch {tmp_path}/evil\n"}.items():
        (there / name).write_text(text)
    sums = subprocess.run(
        ["sh", "-c", f"cd {there} && sha256sum command index port port.sed | sha256sum | cut -d' ' -f1"],
        capture_output=True,
        text=True,
        check=True,
    )
    (there / "proof").write_text(sums.stdout)
    for one in [copy, *copy.rglob("*")]:
        os.chown(one, SOMEBODY, -1)
    ours = Path(allocation.folder)
    try:
        if what == "folder":
            (site / "state").rename(site / "aside")
            copy.rename(site / "state")
        elif what == "services":
            shutil.rmtree(ours / "services")
            (there.parent).rename(ours / "services")
        else:
            shutil.copytree(there, ours / "services" / "s1")
            for one in (ours / "services" / "s1", *(ours / "services" / "s1").iterdir()):
                os.chown(one, SOMEBODY if one.name == what or what == "keeper.sh" else 0, -1)
        await asyncio.sleep(9)
        assert not (tmp_path / "evil").exists()
        if what == "folder":
            (site / "state" / NAME / "1" / "services" / "s1" / "listening").write_text("5000\n")
            [status] = (await cluster.look([Waiter(NAME, 1)])).values()
            assert (status.gone, status.services) == (True, ()), "nor is what it says believed"
            assert await cluster.service_at("127.0.0.1", 5000) is None
            assert await cluster.certificate_at("127.0.0.1", 5000) is None
            assert not alive(int(allocation.job_id)), "and its keeper does not go on in a stranger's folder"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(allocation.job_id), 15)
        await asyncio.sleep(1)


async def test_in_a_shared_project_what_we_asked_for_runs(site: Path) -> None:
    site.chmod(0o777)
    cluster = LocalCluster(LocalShell(), state_dir=str(site / "state"), shared_parents=True)
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    try:
        await until(cluster, lambda s: bool(s.services and s.services[0].port))
        await cluster.add_service(
            allocation, service(SERVER, index=1).__class__("s2", 1, SERVER, "0", service().port_patterns)
        )
        await until(cluster, lambda s: bool(s.service("s2") and s.service("s2").port))
    finally:
        await cluster.release(NAME, grace=2)


def test_the_connection_says_that_folders_are_shared_on_purpose() -> None:
    from airflow_brayns.hooks.cluster import make_cluster

    assert not make_cluster(ClusterSettings.read({})).shared_parents
    for scheduler in ("slurm", "local"):
        assert make_cluster(
            ClusterSettings.read({"state_dir_parents": "shared", "scheduler": scheduler})
        ).shared_parents


def test_both_refusals_name_the_field() -> None:
    assert StateFolderFull("/x").field == StateFolderNotOurs("owner", "/x", "bob").field == "state_dir"
