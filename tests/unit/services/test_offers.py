"""What a cluster's user may ask for, as Slurm's programs tell it (21.08 and 22.05, and what sites put around them)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.services.offers import offers_of, read_offers
from tests.support.shell import ShellThrough

SINFO = """Welcome to the cluster|today
prod*|up|1-00:00:00|30|cpu,avx512
prod*|up|1-00:00:00|2|cpu
gpu|up|8:00:00|4|volta,cpu
old|down|infinite|8|(null)
debug|up|infinite|1|(null)
"""
ASSOC = """proj3||normal,long
proj9|gpu|normal
proj7|gone|secret
"""
RESERVED = """course     ACTIVE  2026-11-20T08:00:00  2026-12-01T08:00:00  11-00:00:00  r1i1n[0-3]
later    INACTIVE  2027-11-20T08:00:00  2027-12-01T08:00:00  11-00:00:00  r1i1n[0-3]
"""
ALL = {
    "partitions": [
        {"name": "prod", "default": True, "time_limit": "1-00:00:00", "nodes": 32},
        {"name": "gpu", "default": False, "time_limit": "8:00:00", "nodes": 4},
        {"name": "debug", "default": False, "time_limit": "infinite", "nodes": 1},
    ],
    "accounts": ["proj3", "proj9"],
    "qos": ["long", "normal"],
    "constraints": ["avx512", "cpu", "volta"],
    "reservations": ["course"],
}


def site(folder: Path, **programs: str) -> Cluster:
    """A login machine that has these programs of Slurm's, each printing a text; one of an empty text fails."""
    for name, text in programs.items():
        path = folder / name
        (folder / f"{name}.txt").write_text(text)
        path.write_text(f"#!/bin/sh\n[ -s {path}.txt ] && cat {path}.txt\n")
        path.chmod(0o755)
    if "sinfo" in programs:
        (folder / "reservations.txt").write_text(RESERVED)
        case = f'case " $* " in *" -T "*) cat {folder}/reservations.txt;; *) [ -s {folder}/sinfo.txt ] && cat {folder}/sinfo.txt;; esac'
        (folder / "sinfo").write_text(f"#!/bin/sh\n{case}\n")
    return SlurmCluster(ShellThrough(["/bin/sh"], before=f"PATH={folder}:$PATH"), state_dir=str(folder / "state"))


async def test_partitions_accounts_and_what_else_there_is(tmp_path: Path) -> None:
    assert await offers_of(site(tmp_path, sinfo=SINFO, sacctmgr=ASSOC)) == ALL


async def test_colours_and_carriage_returns_are_no_names(tmp_path: Path) -> None:
    painted = SINFO.replace("prod*", "\033[1;32mprod*\033[0m").replace("\n", "\r\n")
    assert await offers_of(site(tmp_path, sinfo=painted, sacctmgr=ASSOC.replace("\n", "\r\n"))) == ALL


async def test_what_slurm_does_not_tell_is_left_out(tmp_path: Path) -> None:
    """A site without accounting, and one whose `sinfo` fails for this user."""
    found = await offers_of(site(tmp_path, sinfo=SINFO, sacctmgr=""))
    assert found == {name: value for name, value in ALL.items() if name not in ("accounts", "qos")}
    (tmp_path / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    assert await offers_of(site(tmp_path, sacctmgr=ASSOC)) == {"accounts": ["proj3"], "qos": ["long", "normal"]}


async def test_this_machine_offers_nothing(tmp_path: Path) -> None:
    assert await offers_of(LocalCluster(LocalShell(), state_dir=str(tmp_path))) == {}


@pytest.mark.parametrize("text", ["", "\n\n", "a|b", "|up|1|1|x", "p|up|1|many|x", "p|up|1|1|x|y", "\x00|\x1b[31m"])
def test_whatever_else_is_printed_is_passed_over(text: str) -> None:
    coded = [base64.b64encode(text.encode()).decode()]
    assert read_offers({"partitions": coded, "associations": coded, "reservations": coded}) == {}


def test_a_huge_site_is_cut_short() -> None:
    many = "".join(f"p{number}|up|1:00:00|1|f{number}\n" for number in range(5000))
    found = read_offers({"partitions": [base64.b64encode(many.encode()).decode()]})
    assert (len(found["partitions"]), len(found["constraints"])) == (200, 200)
