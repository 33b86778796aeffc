"""A connection is tried thing by thing: what cannot work is told, with its remedy, and takes nothing."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.connection_test import try_connection
from airflow_brayns.services.settings import ClusterSettings
from tests.support.shell import answering
from tests.support.task import NAME_OF_EMULATOR

# What Slurm 22.05 prints, by program; the options tell which of them do.
SBATCH = """
for one in "$@"; do
    case $one in
    --version) echo 'slurm 22.05.8'; exit ;;
    --account=nobody) echo 'allocation failure: Invalid account or account/partition combination specified' >&2; exit 1 ;;
    --partition=nix) echo 'allocation failure: Invalid partition name specified' >&2; exit 1 ;;
    --constraint=nix) echo 'allocation failure: Invalid feature specification' >&2; exit 1 ;;
    --test-only) tested=yes ;;
    esac
done
[ -n "$tested" ] || exit 9
echo 'sbatch: Job 7 to start at 2026-11-26T08:00:00 using 1 processors on nodes n1 in partition prod' >&2
"""
PROGRAMS = {
    "sbatch": SBATCH,
    "sinfo": 'case "$*" in *nix*) ;; *) echo prod ;; esac',
    "sacctmgr": "printf 'proj3\\nproj4\\n'",
    **dict.fromkeys(("squeue", "scancel", "scontrol", "srun", "sacct"), "exit 0"),
}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that this machine has, but its Slurm; more than a thousand links, which nobody changes."""
    folder = tmp_path_factory.mktemp("others")
    for program in Path("/usr/bin").iterdir():
        if program.name not in PROGRAMS:
            (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def path(tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only programs beside the system's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{others}")
    return folder


def install(folder: Path, **changes: str | None) -> None:
    for name, text in (PROGRAMS | changes).items():
        if text is not None:
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)


def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **extra: Any) -> tuple[bool, list[str]]:
    known = {"executable": NAME_OF_EMULATOR, "state_dir": str(tmp_path / "state")}
    connection = {"conn_type": "brayns_cluster", "extra": known | extra}
    monkeypatch.setenv("AIRFLOW_CONN_TRIED", json.dumps(connection))
    good, text = BraynsClusterHook("tried").test_connection()
    lines = text.splitlines()
    assert all(len(line) < 120 for line in lines)
    return good, re.sub(r"\n {5}(?!What to do)", " ", text).splitlines()


def failures(lines: list[str]) -> list[str]:
    return [line.removeprefix("FAIL ").partition(":")[0] for line in lines if line.startswith("FAIL")]


def test_what_works_is_told_line_by_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path)
    good, lines = tried(monkeypatch, tmp_path, scheduler="slurm", account="proj3", partition="prod", setup="export X=1")
    assert good, lines
    assert [line[5:].partition(":")[0] for line in lines if line[:2] == "ok"] == [
        "reached", "scheduler", "partition", "account", "request", "state_dir", "setup", "executable",
    ]  # fmt: skip
    assert "slurm 22.05.8" in "\n".join(lines)
    assert not list((tmp_path / "state").iterdir()), "nothing stays"


def test_a_cluster_that_gives_no_answer_is_not_taken_for_one_that_agrees(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Slurm's programs without their configuration."""
    silent = "echo 'fatal: Could not establish a configuration source' >&2; exit 1"
    install(path, sbatch=silent, sinfo=silent, sacctmgr=silent)
    good, lines = tried(monkeypatch, tmp_path, scheduler="slurm", account="proj3", partition="prod")
    assert not good
    said = {line[5:].partition(":")[0]: line[:4].strip() for line in lines if line[0] != " "}
    assert (said["partition"], said["account"]) == ("-", "-")
    assert "Could not establish" in " ".join(lines)


CANNOT = [
    ({"account": "nobody"}, {}, ["account"]),
    ({"account": "nobody"}, {"sacctmgr": "exit 1"}, ["account"]),
    ({"partition": "nix"}, {}, ["partition"]),
    ({"partition": "nix"}, {"sinfo": "exit 1"}, ["partition"]),
    ({"partition": "prod,nix"}, {}, ["partition"]),
    ({"constraint": "nix"}, {}, ["constraint"]),
    ({}, {"sbatch": None, "srun": None}, ["scheduler"]),
    ({"executable": "braynsNix"}, {}, ["executable"]),
    ({"executable": "/nix/braynsService"}, {}, ["executable"]),
    ({"executable": "/bin/true"}, {}, ["executable"]),
    ({"container": "apptainer-nix exec image.sif"}, {}, ["executable"]),
    ({"setup": "module load nix"}, {}, ["setup"]),
    ({"setup": "source /nix/profile"}, {}, ["setup"]),
    ({"state_dir": "/proc/nix"}, {}, ["state_dir"]),
    ({"state_dir": "/dev/null/x"}, {}, ["state_dir"]),
    ({"account": "nobody", "executable": "nix", "state_dir": "/proc/nix"}, {}, ["account", "state_dir", "executable"]),
]


@pytest.mark.parametrize(("extra", "programs", "fields"), CANNOT)
def test_what_cannot_work_is_told_with_its_remedy(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], programs: dict[str, str | None],
    fields: list[str],
) -> None:  # fmt: skip
    install(path, **programs)
    good, lines = tried(monkeypatch, tmp_path, **{"scheduler": "slurm", **extra})
    assert not good
    assert list(dict.fromkeys(failures(lines))) == fields, lines


def test_what_sbatch_is_not_given_by_a_submission_it_is_not_given_here(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its libraries were found by the login's own variables, and each submission failed."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/slurm/lib")
    needs = "[ -n \"$LD_LIBRARY_PATH\" ] || { echo 'sbatch: error while loading shared libraries: libslurmfull.so' >&2; exit 127; }\n"
    install(path, sbatch=needs + SBATCH)
    good, lines = tried(monkeypatch, tmp_path, scheduler="slurm")
    assert (good, failures(lines)) == (False, ["scheduler"])
    assert "libslurmfull.so" in " ".join(lines)


GREETS = 'echo "Welcome to the site"; echo "prod and proj3, too"\n'
SWALLOWED = "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 0"
WRAPPED: list[tuple[dict[str, str], dict[str, str], dict[str, str]]] = [
    ({"partition": "nix"}, {"sinfo": GREETS + PROGRAMS["sinfo"], "sbatch": SBATCH.replace("=nix", "=none")}, {"partition": "-"}),
    ({"partition": "prod"}, {"sinfo": "printf '\\033[1mprod*\\033[0m\\r\\n'; exit 1"}, {"partition": "ok"}),
    ({"partition": "prod"}, {"sinfo": SWALLOWED}, {"partition": "-"}),
    ({"partition": "prod"}, {"sinfo": f"{{ {SWALLOWED}; }} 2>&1"}, {"partition": "-"}),
    ({"account": "proj3"}, {"sacctmgr": "echo 'We keep our own books: see mybalance'"}, {"account": "-"}),
    ({"account": "Welcome"}, {"sacctmgr": GREETS + PROGRAMS["sacctmgr"]}, {"account": "FAIL"}),
    ({"account": "PROJ3"}, {"sacctmgr": GREETS + "printf 'proj3|\\r\\n'"}, {"account": "ok"}),
    ({"account": "lab:proj3"}, {"sacctmgr": "printf '*****\\nlab:proj3|\\nlab/x|\\n'"}, {"account": "ok"}),
    ({"account": "nobody"}, {"sbatch": f"( {SBATCH} ); echo bye", "sacctmgr": "exit 1"}, {"account": "FAIL"}),
    ({"constraint": "nix"}, {"sbatch": f"( {SBATCH} ) 2>&1 | cat"}, {"constraint": "FAIL"}),
    ({}, {"sbatch": f"( {SBATCH} ); echo 'Your balance: 17'; exit 3"}, {"request": "ok"}),
    ({}, {"squeue": "echo 'You ask too often; wait a minute'"}, {"squeue": "FAIL"}),
]  # fmt: skip


@pytest.mark.parametrize(("extra", "programs", "marks"), WRAPPED)
def test_what_a_sites_wrappers_say_and_swallow_is_not_believed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], programs: dict[str, str | None],
    marks: dict[str, str],
) -> None:  # fmt: skip
    """A partition that does not exist was 'ok' behind a greeting, a request that Slurm refused was 'Slurm would take it: bye'."""
    install(path, **programs)
    good, lines = tried(monkeypatch, tmp_path, **{"scheduler": "slurm", **extra})
    told = {line[5:].partition(":")[0]: line[:4].strip() for line in lines if line[0] != " "}
    assert {what: told.get(what) for what in marks} == marks, lines
    assert good is ("FAIL" not in marks.values())
    assert "Your balance" not in " ".join(lines)


def test_files_that_the_way_there_needs_are_looked_for(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(path)
    given = {"scheduler": "slurm", "node_known_hosts": str(tmp_path / "hosts"), "tls": "given"}
    given |= {"tls_certificate_file": str(tmp_path / "cert.pem"), "tls_private_key_file": str(tmp_path / "key.pem")}
    (tmp_path / "cert.pem").touch()
    good, lines = tried(monkeypatch, tmp_path, **given)
    assert (good, failures(lines)) == (False, ["node_known_hosts"])
    assert f"-    tls_private_key_file: {tmp_path}/key.pem cannot be read on this machine; the nodes need it" in lines
    assert f"ok   tls_certificate_file: {tmp_path}/cert.pem can be read on this machine" in lines
    (tmp_path / "hosts").touch()
    assert tried(monkeypatch, tmp_path, **given)[0], "the nodes may have the key"
    good, lines = tried(monkeypatch, tmp_path, **{**given, "scheduler": "local"})
    assert (good, failures(lines)) == (False, ["tls_private_key_file"])


@pytest.mark.parametrize("field", ["executable", "setup", "state_dir"])
def test_this_machine_is_tried_too(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    good, lines = tried(monkeypatch, tmp_path, scheduler="local")
    assert good, lines
    bad = {"executable": "nix", "setup": "false", "state_dir": "/proc/nix"}
    good, lines = tried(monkeypatch, tmp_path, scheduler="local", **{field: bad[field]})
    assert (good, failures(lines)) == (False, [field])


@pytest.mark.parametrize(
    "setup",
    ["exit 0", "cat <<END\nhello", "echo 'a", "exec bash -c true", "echo hi\nexec echo moved", "exec bash -c 'exit 3'"],
)
def test_a_setup_after_which_nothing_runs_is_a_fault_of_setup(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: str
) -> None:
    good, lines = tried(monkeypatch, tmp_path, scheduler="local", setup=setup)
    assert (good, failures(lines)) == (False, ["setup"])
    assert "ends the shell, so that nothing behind it is run" in " ".join(" ".join(lines).split())


def test_a_container_that_is_not_there_is_not_told_of_as_a_version(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, lines = tried(monkeypatch, tmp_path, scheduler="local", container="no-such-apptainer exec x.sif")
    assert (good, failures(lines)) == (False, ["executable"])
    assert "no-such-apptainer: command not found" in " ".join(lines)


def test_a_folder_of_others_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    good, lines = tried(monkeypatch, tmp_path, scheduler="local")
    assert (good, failures(lines)) == (False, ["state_dir"])


def test_start_files_that_end_the_shell_are_no_fault_and_no_version(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node starts the service without them then."""
    (tmp_path / ".bash_profile").write_text("exit 0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    good, lines = tried(monkeypatch, tmp_path, scheduler="local")
    assert good, lines
    assert "- executable: was not tried on this machine: the start files" in " ".join(" ".join(lines).split())


def test_a_time_out_tells_what_setup_waits_for(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.services.connection_test._SETUP_SECONDS", 1)
    good, lines = tried(monkeypatch, tmp_path, scheduler="local", setup="echo waiting for a licence\nsleep 1000")
    assert (good, failures(lines)) == (False, ["setup"])
    assert "it last said: waiting for a licence" in " ".join(" ".join(lines).split())


def test_it_is_bounded_in_time(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.services.connection_test._SETUP_SECONDS", 1)
    began = time.monotonic()
    good, lines = tried(monkeypatch, tmp_path, scheduler="local", setup="sleep 1000 & sleep 1000")
    assert (good, failures(lines)) == (False, ["setup"])
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"scheduler": "slurm", "ssh_conn_id": "nix"}, "no connection 'nix'"),
        ({"scheduler": "cron"}, "scheduler"),
        ({"partitoin": "prod"}, "partitoin"),
    ],
)
def test_a_connection_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], told: str
) -> None:
    good, lines = tried(monkeypatch, tmp_path, **extra)
    assert not good
    assert told in " ".join(lines)


def test_a_login_node_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"conn_type": "ssh", "host": "127.0.0.1", "port": 1, "login": "me"}
    monkeypatch.setenv("AIRFLOW_CONN_LOGIN", json.dumps(login))
    good, lines = tried(monkeypatch, tmp_path, scheduler="slurm", ssh_conn_id="login")
    assert not good
    assert len(failures(lines)) == 1
    assert "airflow connections test login" in " ".join(lines)


@pytest.mark.parametrize("scheduler", ["slurm", "local"])
async def test_that_the_machine_answers_comes_first_whatever_else_does_not_work(scheduler: str) -> None:
    """So that nobody looks for a missing partition in the way to the login node."""
    cluster, _ = answering("")
    found = await try_connection(cluster, ClusterSettings.read({"scheduler": scheduler}), "the login node (login)")
    assert str(found[0]) == "ok   reached: the login node (login) answers"
    assert not all(one.good for one in found)
