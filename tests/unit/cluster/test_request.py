from __future__ import annotations

import pendulum
import pytest

from airflow_brayns.cluster.request import AllocationRequest, seconds_of, slurm_time
from airflow_brayns.errors import InvalidSetting


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("10:30", 630), ("2:00:00", 7200), ("1-12", 129600), ("1-2:03", 93780), ("1-2:03:04", 93784)],
)
def test_slurms_time_spellings(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_pendulum_durations() -> None:
    assert seconds_of(pendulum.duration(hours=2, minutes=5)) == 7500
    assert slurm_time(93784) == "1-02:03:04"


@pytest.mark.parametrize("bad", ["", "-5", "0", "tomorrow", "1:2:3:4", "5; rm -rf /"])
def test_a_bad_time_names_the_field(bad: str) -> None:
    with pytest.raises(InvalidSetting, match="time_limit"):
        AllocationRequest(time_limit=bad)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="time_limit"):
        AllocationRequest(time_limit=pendulum.duration(hours=-1))


def test_the_manual_recipe_word_for_word() -> None:
    """`salloc --account=proj3 --partition=prod --exclusive --constraint=cpu -c 72 --mem 0`, by fields and as typed."""
    by_fields = AllocationRequest(
        account="proj3", partition="prod", exclusive=True, constraint="cpu", cpus_per_task=72, memory=0
    ).sbatch_arguments()
    assert {
        "--account=proj3",
        "--partition=prod",
        "--exclusive",
        "--constraint=cpu",
        "--cpus-per-task=72",
        "--mem=0",
    } <= set(by_fields)
    typed = "--account=proj3 --partition=prod --exclusive --constraint=cpu -c 72 --mem 0"
    assert AllocationRequest(sbatch_options=typed).sbatch_arguments()[1:] == typed.split()


@pytest.mark.parametrize(
    "option",
    [
        "--array=1-3",
        "-a",
        "--job-name=x",
        "-Jx",
        "--requeue",
        "--output=/dev/null",
        "-o",
        "--wrap=ls",
        "--sig=B:USR1",
        "--comm=x",
    ],
)
def test_options_that_the_keeper_owns_are_refused_by_name(option: str) -> None:
    with pytest.raises(InvalidSetting, match="keeper owns"):
        AllocationRequest(sbatch_options=[option])


@pytest.mark.parametrize(
    ("field", "value"),
    [("account", "a b"), ("partition", "-p"), ("constraint", "cpu\n--wrap=x"), ("memory", "lots"), ("nodes", 0), ("cpus_per_task", 0)],
)  # fmt: skip
def test_bad_values_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=field):
        AllocationRequest(**{field: value})  # type: ignore[arg-type]


def test_a_stray_word_is_not_taken_for_a_script() -> None:
    with pytest.raises(InvalidSetting, match="script"):
        AllocationRequest(sbatch_options=["--licenses=x", "evil.sh"])
