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


@pytest.mark.parametrize(
    "options",
    [
        ["-c72", "evil.sh"], ["--nice", "evil.sh"], ["--exclu", "evil.sh"], ["--exclusive=user", "evil.sh"], ["--uid", "-L", "evil.sh"],
        ["--unknown", "evil.sh"], ["--unknown", "-L", "evil.sh"], ["--unknown", "--licenses", "evil.sh"], ["-H", "evil.sh"], ["-sH", "evil.sh"], ["-c"], ["-x", "a", "b"],
    ],
)  # fmt: skip
def test_no_word_becomes_the_script(options: list[str]) -> None:
    """A word behind an option that already had its value, or takes none, was let through: sbatch ran it in the keeper's place."""
    with pytest.raises(InvalidSetting, match="sbatch_options"):
        AllocationRequest(sbatch_options=options)


@pytest.mark.parametrize("word", ["-sa1-3", "-HJx", "-OW", "-sHk", "-u"])
def test_the_keepers_options_are_refused_behind_others_in_one_word_too(word: str) -> None:
    """getopt reads `-sa1-3` as `-s -a 1-3`; only the first letter was looked at."""
    with pytest.raises(InvalidSetting, match="keeper owns"):
        AllocationRequest(sbatch_options=[word])


def test_a_colon_does_not_begin_another_jobs_options() -> None:
    """`sbatch --mem 1 : --array=1-9 script` is a heterogeneous job of two."""
    with pytest.raises(InvalidSetting, match="another job"):
        AllocationRequest(sbatch_options=["--mem", ":"])


@pytest.mark.parametrize(
    "options", [["--x11"], ["--site-flag", "--licenses=x"], ["--exclusive", "--site-flag"], ["--site=a"]]
)
def test_a_sites_own_options_pass(options: list[str]) -> None:
    """Of a SPANK plugin, say; whether such a one takes the word behind it is not known here."""
    assert AllocationRequest(sbatch_options=options).words() == options


def test_several_letters_in_one_word_are_options_too() -> None:
    assert AllocationRequest(sbatch_options=["-sHc4", "-x", "r1i1n3"]).words() == ["-sHc4", "-x", "r1i1n3"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("account", "\ud800"), ("account", "a\x7f"), ("partition", "a\u202eb"), ("qos", "x" * (1 << 20)), ("memory", "٣G"), pytest.param("memory", 10**5000, id="memory-huge"),
        ("time_limit", "9" * 5000), ("time_limit", "999999999-0"), pytest.param("time_limit", 10**5000, id="time-huge"), ("nodes", 10**9), pytest.param("cpus_per_task", 10**5000, id="cpus-huge"),
        ("cpus_per_task", True), ("sbatch_options", ["--licenses=\ud800"]), ("sbatch_options", ["--licenses=" + "x" * (1 << 20)]),
        ("sbatch_options", [None]), ("sbatch_options", ["-H"] * 100_000),
    ],
)  # fmt: skip
def test_what_cannot_be_said_to_sbatch_is_refused_by_name(field: str, value: object) -> None:
    """Half characters, other scripts' digits, numbers without end and megabytes came through, or crashed with errors of Python's."""
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        AllocationRequest(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "last"),
    [("nodes", 65_533), ("cpus_per_task", 1_000_000), ("time_limit", "3650-0"), ("account", "x" * 1024), ("sbatch_options", ["-x", "y" * 8192]), ("sbatch_options", ["-H"] * 1000)],
)  # fmt: skip
def test_limits_are_where_they_are_said_to_be(field: str, last: object) -> None:
    """The last that is taken, and the first that is not."""
    AllocationRequest(**{field: last})  # type: ignore[arg-type]
    beyond = {
        int: lambda one: one + 1, str: lambda one: "3650-0:0:1" if field == "time_limit" else one + "x",
        list: lambda one: [one[0], one[1] + "y"] if len(one) == 2 else [*one, "-H"],
    }[type(last)](last)  # fmt: skip
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        AllocationRequest(**{field: beyond})  # type: ignore[arg-type]


def test_every_field_becomes_its_option_and_the_users_own_come_last() -> None:
    """Those that are not set are not mentioned: the partition's own defaults apply."""
    assert AllocationRequest().sbatch_arguments() == ["--nodes=1"]
    assert AllocationRequest(
        nodes=2, account="a", partition="p", cpus_per_task=3, memory="4G", exclusive=True, constraint="cpu&x", time_limit="1:00",
        qos="q", reservation="r", gres="gpu:1", sbatch_options="--licenses='a b' -x n1",
    ).sbatch_arguments() == [
        "--nodes=2", "--account=a", "--partition=p", "--constraint=cpu&x", "--cpus-per-task=3", "--mem=4G", "--qos=q",
        "--reservation=r", "--gres=gpu:1", "--exclusive", "--time=0-00:01:00", "--licenses=a b", "-x", "n1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "seconds"), [(None, None), ("1:00", 60), (2, 120), (pendulum.duration(seconds=1), 1)]
)
def test_the_time_limit_in_seconds(limit: object, seconds: int | None) -> None:
    assert AllocationRequest(time_limit=limit).seconds == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("'unfinished", "cannot be split into words"), (["-x"], "'-x' needs a value behind it"), (["--"], "'--' is not an option"),
        (["-"], "'-' is not an option"), (["--unknown", "-L", "x"], "'--unknown' is not known here"), (["-Z"], "'-Z' is not an option that is known"),
        (["x"], "'x' is not an option; sbatch would take it for a script"), (["-x", "a\nb"], "holds a NUL, a line break"), (["-x", "a\0b"], "holds a NUL"),
        (["--exclusive", ":"], "would begin another job"),
    ],
)  # fmt: skip
def test_why_an_option_is_refused(options: list[str] | str, why: str) -> None:
    with pytest.raises(InvalidSetting, match=f"(?s)^sbatch_options: .*{why}"):
        AllocationRequest(sbatch_options=options)


@pytest.mark.parametrize(
    "options",
    [["-x", "-n1"], ["--nodelist", "n1"], ["--nodelist=n1"], ["-xn1", "-H"], ["--hold", "-x", "n1"], ["--unknown=1", "-H"], ["--unknown"], ["-H", "--unknown"], ["--unknown", "--exclusive"]],
)  # fmt: skip
def test_what_sbatch_would_take_as_it_is_meant_passes(options: list[str]) -> None:
    assert AllocationRequest(sbatch_options=options).words() == options
