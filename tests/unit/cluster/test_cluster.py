"""What is said to a cluster, and what its answers are taken for."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import (
    AllocationLost,
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    StateFolderFull,
    StateFolderNotOurs,
    SubmissionRefused,
)
from tests.support.shell import FakeShell, answering, coded, in_turn, look, service

NAME = "ab-0123456789ab000"
ALLOCATION = Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1")
SERVICE = ServiceCommand("s1", 1, "sleep 9", "0", ("s/x/y/",))


async def submit(answer: str, **options: Any) -> Allocation:
    cluster, _ = answering(answer)
    return await cluster.submit(NAME, "owner", AllocationRequest(), **options)


# ---- submitting --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("adopted", "is_adopted"), [("0", False), ("1", True)])
async def test_what_was_submitted_is_known_by_all_that_the_scheduler_said(adopted: str, is_adopted: bool) -> None:
    answer = f"incarnation 3\nadopted {adopted}\njob 77 2026-11-22T10:00:00\nfolder /s/{NAME}/3\n"
    assert await submit(answer) == Allocation(NAME, 3, "77", "2026-11-22T10:00:00", f"/s/{NAME}/3", is_adopted)


@pytest.mark.parametrize(
    ("said", "field", "retry"),
    [
        ("Batch job submission failed: Invalid partition name specified", "partition", False),
        ("Invalid account or account/partition combination specified", "account", False),
        ("Job violates accounting/QOS policy (job submit limit)", "account, qos, nodes or time_limit", True),
        ("QOS submit limit reached", "account, qos", True),
    ],
)
async def test_a_refusal_names_the_field_and_is_retried_only_at_a_limit(said: str, field: str, retry: bool) -> None:
    """A limit of the account's is over when another job ends; a partition that does not exist will not come."""
    with pytest.raises(SubmissionRefused, match=f"^{field}") as raised:
        await submit(f"refused 1 {coded(said)}\n")
    assert raised.value.retry is retry
    assert said in str(raised.value)


async def test_a_folder_that_cannot_be_written_names_its_field() -> None:
    with pytest.raises(InvalidSetting, match=r"^state_dir: choose .*\n +/s cannot be written"):
        await submit("unwritable /s\n")


async def test_another_airflows_job_is_left_alone() -> None:
    with pytest.raises(SubmissionRefused, match=f"(?s)^installation_id: .*other/1.*{NAME}"):
        await submit("foreign other/1\n")


@pytest.mark.parametrize("how", [f"unsure {coded('slurmctld is gone')}", "busy slurmctld is gone"])
async def test_what_the_scheduler_said_of_a_job_that_may_be_submitted_is_told(how: str) -> None:
    with pytest.raises(ConnectionLost, match="did not say whether the job was taken: slurmctld is gone") as raised:
        await submit(f"{how}\n")
    assert raised.value.retry


@pytest.mark.parametrize(
    ("line", "error"), [(f"full {NAME}/1", StateFolderFull), (f"untrusted writable {coded('/s')} {coded('joe')}", StateFolderNotOurs)]
)  # fmt: skip
@pytest.mark.parametrize("verb", ["submit", "add_service"])
async def test_a_state_folder_that_is_full_or_others_can_change_is_told_by_what_writes_there(
    verb: str, line: str, error: type[BraynsError]
) -> None:
    cluster, _ = answering(f"{line}\n")
    asked = {
        "submit": lambda: cluster.submit(NAME, "owner", AllocationRequest()),
        "add_service": lambda: cluster.add_service(ALLOCATION, SERVICE),
    }
    with pytest.raises(error):
        await asked[verb]()


@pytest.mark.parametrize("line", ["untrusted", "untrusted odd L3M= am9l", "untrusted owner L3M=", "fuller", "fullx /s"])
async def test_only_words_that_are_known_are_believed_of_the_folder(line: str) -> None:
    cluster, _ = answering(f"{line}\nused\n")
    assert await cluster.renew(NAME, 1)


async def test_what_is_submitted_says_where_how_and_what() -> None:
    """Scheduler and state folder come first; request, keeper and owner are in it."""
    cluster, shell = answering(f"incarnation 1\njob 77 x\nfolder /s/{NAME}/1\n", shared_parents=True)
    request = AllocationRequest(partition="prod", cpus_per_task=7)
    await cluster.submit(NAME, "owner", request, [SERVICE], about="a movie", after=2)
    [script] = shell.scripts
    assert script.startswith("scheduler=slurm\nstate_dir=/s\nshared=yes\n")
    assert shell.last() == f"submit {NAME} owner 2"
    assert "--partition=prod" in script
    assert "cpus_per_task=7" in script.replace("'\"'\"'", "")
    assert "sleep 9" in script
    assert "about='a movie'" in script
    assert shell.timeouts == [120]


async def test_an_allocation_that_nothing_is_said_about_is_called_by_its_name() -> None:
    """Its note is empty: another one's words would be taken for whoever asked for it."""
    cluster, shell = answering(f"incarnation 1\njob 77 x\nfolder /s/{NAME}/1\n")
    await cluster.submit(NAME, "owner", AllocationRequest())
    assert "\nabout=''\n" in shell.scripts[0]
    assert f"--comment=airflow-brayns::{NAME}" in shell.scripts[0]


# ---- names and addresses -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [1000, 1001])
def test_a_state_folders_name_has_an_end(length: int) -> None:
    folder = "/" + "x" * (length - 1)
    if length <= 1000:
        assert LocalCluster(FakeShell(), state_dir=folder).state_dir == folder
    else:
        with pytest.raises(InvalidSetting, match="^state_dir"):
            LocalCluster(FakeShell(), state_dir=folder)


# ---- looking -----------------------------------------------------------------------------------------------------------
async def test_one_command_looks_at_all() -> None:
    cluster, shell = answering(look(NAME) + look(f"{NAME}1", word="PENDING", nodes=(), job_id="78"))
    found = await cluster.look([Waiter(NAME, 1), Waiter(f"{NAME}1", 1, offsets={"s1": 12})], patience=0.9)
    assert [(key, status.state) for key, status in found.items()] == [
        ((NAME, 1), JobState.RUNNING),
        ((f"{NAME}1", 1), JobState.PENDING),
    ]
    assert shell.last() == f"look_for 8 0 0.2 '{NAME} 1 1 0' '{NAME}1 1 1 0 s1 12'"


async def test_a_look_waits_on_the_cluster_for_news_as_long_as_it_is_told() -> None:
    """And the command may take so much longer."""
    cluster, shell = answering(look(NAME))
    await cluster.look([Waiter(NAME, 1, want=2, known=3, offsets={"s1": 0})])
    await cluster.look([Waiter(NAME, 1, want=2, known=3, offsets={"s1": 0})], patience=15, tick=0.5)
    assert shell.last() == f"look_for 8 15 0.5 '{NAME} 1 2 3 s1 0'"
    assert shell.timeouts[1] - shell.timeouts[0] == 15


LISTENS = f"at {NAME} 1 s1 lives r1i1n0\n"


async def test_a_certificate_is_found_by_where_its_service_is() -> None:
    cluster, shell = in_turn(LISTENS, f"certificate {NAME} 1 {coded('PEM')}\n")
    assert await cluster.certificate_at("r1i1n0", 5000) == (NAME, "PEM")
    assert shell.scripts[0].endswith("\nlistening_at 5000")
    assert shell.last() == f"certificate {NAME} 1"
    for odd in ("", f"certificate {NAME} 1\n", f"certificate ab-1 1 {coded('PEM')}\n", f"certificate {NAME} 1 ?\n"):
        assert await in_turn(LISTENS, odd)[0].certificate_at("r1i1n0", 5000) is None
    assert await in_turn(LISTENS.replace("lives", "over"))[0].certificate_at("r1i1n0", 5000) is None


async def test_a_service_is_examined_where_it_listens() -> None:
    examined = f"folder {coded('/s/f')}\nidle 77\nasked 5000-6000\ntail {coded('bye')}\nsocket strange joe\n"
    seen = look(NAME, services=[service("s1", port=5000)])
    cluster, shell = in_turn(LISTENS, f"examined {NAME} 1 s1\n{examined}{seen}")
    found = await cluster.service_at("r1i1n0", 5000)
    assert found is not None
    assert (found.allocation.key, found.allocation.folder, found.service.name) == ((NAME, 1), "/s/f", "s1")
    assert (found.idle_limit, found.asked_port, found.tail, found.strangers) == (77, "5000-6000", "bye", ("joe",))
    assert found.fate is Fate.STRANGE
    assert f"\nexamine {NAME} 1 s1 " in shell.scripts[1]


async def test_where_no_service_of_ours_is_nothing_is_found() -> None:
    cluster, shell = answering("")
    assert await cluster.service_at("r1i1n0", 5000) is None
    assert shell.commands == 1


@pytest.mark.parametrize(("answer", "used"), [("used\n", True), ("gone\n", False), ("not used\n", False)])
async def test_an_allocation_is_renewed_where_it_is_there(answer: str, used: bool) -> None:
    cluster, shell = answering(answer)
    assert await cluster.renew(NAME, 2) is used
    assert shell.last() == f"renew {NAME} 2"


async def test_a_survey_tells_of_folders_and_of_jobs_and_needs_the_scheduler() -> None:
    cluster, _ = answering(look(NAME))
    statuses, jobs = await cluster.survey()
    assert ([one.name for one in statuses], [one.job_id for one in jobs]) == ([NAME], ["77"])
    assert [one.name for one in await cluster.list_all()] == [NAME]
    cluster, _ = answering(look(NAME, answered=False))
    assert [one.name for one in await cluster.list_all()] == [NAME]
    with pytest.raises(ConnectionLost, match="The scheduler does not answer: Unable to contact"):
        await cluster.survey()


async def test_a_post_mortem_says_what_there_is_to_say() -> None:
    cluster, _ = answering(f"sacct {coded('OUT_OF_MEMORY 0:125')}\nkeeper {coded('went away')}\n")
    assert (
        await cluster.post_mortem(NAME, 1)
        == "Slurm's accounting: OUT_OF_MEMORY 0:125\nThe keeper's last lines:\nwent away"
    )
    assert await answering(f"sacct {coded(' ')}\n")[0].post_mortem(NAME, 1) == ""
    assert await answering(f"keeper {coded('x')}\n")[0].post_mortem(NAME, 1) == "The keeper's last lines:\nx"


# ---- giving back -------------------------------------------------------------------------------------------------------
async def test_a_release_counts_all_of_a_name_and_gives_the_keeper_its_grace() -> None:
    cluster, shell = answering(f"found /s/{NAME}/1\nfound /s/{NAME}/2\nreleased {NAME} 1 done\nasked\n")
    assert await cluster.release(NAME, grace=3) == 2
    assert shell.last() == f"release_all {NAME} 3"
    assert shell.timeouts[0] >= 60 + 3


@pytest.mark.parametrize(
    ("line", "error", "why"),
    [
        (f"silent {coded('no controller')}", ConnectionLost, "Slurm did not answer while .* \\(no controller\\)"),
        (f"released {NAME} 1 still RUNNING", AllocationLost, "Slurm says it is RUNNING"),
    ],
)
@pytest.mark.parametrize("verb", ["release", "reap"])
async def test_what_was_not_given_back_for_certain_is_an_error(
    verb: str, line: str, error: type[BraynsError], why: str
) -> None:
    cluster, _ = answering(f"{line}\nasked\n")
    with pytest.raises(error, match=why):
        await (cluster.release(NAME) if verb == "release" else cluster.reap(AllocationStatus(NAME, 1, owner="me")))


async def test_one_that_was_taken_over_since_is_not_reaped() -> None:
    status = AllocationStatus(NAME, 4, owner="some one")
    cluster, shell = answering(f"released {NAME} 4 done\n")
    assert await cluster.reap(status, grace=5)
    assert shell.last() == f"reap {NAME} 4 'some one' 5"
    assert not await answering(f"taken {NAME}\n")[0].reap(status)
    with pytest.raises(ConnectionLost, match="was cut off"):
        await answering("")[0].reap(status)


async def test_a_job_without_a_folder_is_ended_by_id_and_name() -> None:
    job = Job("12_[4-9]", "RUNNING", "None", "n", f"{NAME}-1", "s", "N/A", None)
    cluster, shell = answering("ended\n")
    assert await cluster.end_job(job)
    assert shell.last() == f"end_named '12_[4-9]' {NAME}-1"
    assert not await answering("taken x\n")[0].end_job(job)


async def test_only_what_a_token_still_owns_is_cancelled() -> None:
    cluster, shell = answering(f"cancelled {NAME} 1\ncancelled {NAME} 2\nkept {NAME} 3\n")
    assert await cluster.cancel(NAME, "me") == 2
    assert shell.last() == f"cancel_all {NAME} me"


# ---- steps and services ------------------------------------------------------------------------------------------------
async def test_a_step_has_its_own_time_and_the_command_a_little_more() -> None:
    cluster, shell = answering("printed\n")
    assert await cluster.run_step(ALLOCATION, "echo it's", timeout=90, node="r1i1n0") == "printed\n"
    assert shell.last() == """step 77 90 r1i1n0 'echo it'"'"'s'"""
    assert shell.timeouts == [120]


async def test_a_service_that_has_stopped_is_success() -> None:
    cluster, shell = answering("stopped\n")
    await cluster.stop_service(ALLOCATION, "s1")
    assert shell.last() == f"stop_service {NAME} 1 s1"


async def test_a_service_that_never_was_or_does_not_end_is_an_error() -> None:
    with pytest.raises(InvalidSetting, match="(?s)^service: .* has no service 's1'"):
        await answering(f"absent {NAME}\n")[0].stop_service(ALLOCATION, "s1")
    with pytest.raises(BraynsError, match="did not end within 20 s"):
        await answering("waiting\n")[0].stop_service(ALLOCATION, "s1")


async def test_no_service_starts_in_an_allocation_that_has_ended() -> None:
    with pytest.raises(AllocationLost, match="released by joe") as raised:
        await answering(f"ended {coded('released by joe')}\n")[0].add_service(ALLOCATION, SERVICE)
    assert not raised.value.retry


def test_what_differs_is_each_clusters_own() -> None:
    with pytest.raises(NotImplementedError):
        Cluster(FakeShell()).keeper_for(AllocationRequest(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "folder", ["~alice/brayns", "~alice", "$SCRATCH/brayns", "/scratch/$(id -u)", "/data/`id`", "$HOMES/x"]
)
def test_a_folder_that_only_a_shell_could_name_is_refused_by_name(folder: str) -> None:
    """`$HOME/x` and `~user` made folders of that name."""
    with pytest.raises(InvalidSetting, match="^state_dir: write the folder out"):
        SlurmCluster(FakeShell(), state_dir=folder)


@pytest.mark.parametrize(
    ("folder", "meant"),
    [("$HOME/x", "{home}/x"), ("${HOME}", "{home}"), ("~", "{home}"), ("~/$USER", "{home}/{user}"), ("/tmp/${USER}/x", "/tmp/{user}/x"),
     ("x", "{home}/x"), ("/a b/~c", "/a b/~c")],
)  # fmt: skip
async def test_a_folder_is_meant_as_the_login_would(folder: str, meant: str) -> None:
    cluster = SlurmCluster(LocalShell(), state_dir=folder)
    told = await cluster.call("look", 'printf "at %s\\n" "$state_dir"', 20)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert told.strip() == "at " + meant.format(home=os.environ["HOME"], user=user)


async def test_of_what_has_no_name_of_ours_no_command_is_asked() -> None:
    """The name goes into the script as it is: it is a word of it."""
    cluster, shell = answering("")
    with pytest.raises(InvalidSetting, match="^name"):
        await cluster.command_of(Allocation("x; rm -r ~", 1, "77"), "s1")
    assert not shell.scripts
