"""What is asked of the scheduler: the options of `sbatch`, checked before a node is asked for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from airflow_brayns.errors import InvalidSetting

# What the keeper's mechanism decides itself; a user's value would break it.
KEEPER_OPTIONS = {
    "--array": "-a", "--job-name": "-J", "--requeue": "", "--no-requeue": "", "--wait": "-W", "--output": "-o",
    "--error": "-e", "--input": "-i", "--signal": "", "--no-kill": "-k", "--parsable": "", "--wrap": "",
    "--nodes": "-N", "--open-mode": "", "--chdir": "-D", "--test-only": "", "--clusters": "-M", "--export": "",
    "--quiet": "-Q", "--verbose": "-v", "--help": "-h", "--version": "-V", "--usage": "", "--get-user-env": "",
    "--comment": "",
}  # fmt: skip
# Options that take no word behind them; what follows one would be taken for the script.
_FLAGS = (
    "--exclusive",
    "--hold",
    "-H",
    "--contiguous",
    "--overcommit",
    "-O",
    "--oversubscribe",
    "-s",
    "--spread-job",
    "--use-min-nodes",
    "--reboot",
)
_NAME = re.compile(r"[^\s\x00-\x1f]+")
_MEMORY = re.compile(r"\d+[KMGTkmgt]?[Bb]?")
_TIMES = (
    (re.compile(r"(\d+)-(\d+):(\d+):(\d+)"), (86400, 3600, 60, 1)),
    (re.compile(r"(\d+)-(\d+):(\d+)"), (86400, 3600, 60)),
    (re.compile(r"(\d+)-(\d+)"), (86400, 3600)),
    (re.compile(r"(\d+):(\d+):(\d+)"), (3600, 60, 1)),
    (re.compile(r"(\d+):(\d+)"), (60, 1)),
    (re.compile(r"(\d+)"), (60,)),
)


def seconds_of(value: timedelta | str | int, field_name: str = "time_limit") -> int:
    """Seconds of a duration: a (pendulum) Duration, or text in one of Slurm's spellings.

    :param value: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` or
        `days-hours:minutes:seconds` (https://slurm.schedmd.com/sbatch.html#OPT_time), or a timedelta.
    :raises InvalidSetting: for any other spelling, and for nothing or less.
    """
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
    else:
        text = str(value).strip()
        for pattern, factors in _TIMES:
            if match := pattern.fullmatch(text):
                seconds = sum(int(part) * factor for part, factor in zip(match.groups(), factors, strict=True))
                break
        else:
            raise InvalidSetting(
                field_name,
                f"'{text}' is not a time. Write minutes, H:MM:SS or D-HH:MM:SS as for sbatch, or a Duration.",
            )
    if seconds <= 0:
        raise InvalidSetting(field_name, f"must be more than nothing, not {value}")
    return seconds


def slurm_time(seconds: int) -> str:
    """Seconds in Slurm's spelling `D-HH:MM:SS`."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


@dataclass(frozen=True)
class AllocationRequest:
    """Nodes to ask for. Names and meanings are sbatch's.

    :param nodes: how many nodes, at least 1.
    :param account: account to charge.
    :param partition: partition; None for the cluster's default.
    :param cpus_per_task: CPUs on each node (`-c`).
    :param memory: memory of each node (`--mem`), such as `4G`; `0` for all of it.
    :param exclusive: no other jobs on the nodes.
    :param constraint: features that the nodes must have.
    :param time_limit: how long at most: a Duration, or text in Slurm's spelling; None for the partition's default.
    :param qos: quality of service.
    :param reservation: reservation to run in.
    :param gres: generic resources, such as `gpu:1`.
    :param sbatch_options: further options of sbatch, each word as typed: `["--licenses=brayns", "-x", "r1i1n3"]`, or one
        text that is split as a shell splits it. Those that the keeper owns are refused.
    :raises InvalidSetting: for a value that cannot work, naming the field.
    """

    nodes: int = 1
    account: str | None = None
    partition: str | None = None
    cpus_per_task: int | None = None
    memory: str | int | None = None
    exclusive: bool = False
    constraint: str | None = None
    time_limit: timedelta | str | int | None = None
    qos: str | None = None
    reservation: str | None = None
    gres: str | None = None
    sbatch_options: Sequence[str] | str = field(default=())

    def __post_init__(self) -> None:
        if isinstance(self.nodes, bool) or not isinstance(self.nodes, int) or self.nodes < 1:
            raise InvalidSetting("nodes", f"must be a whole number from 1, not {self.nodes!r}")
        if self.cpus_per_task is not None and self.cpus_per_task < 1:
            raise InvalidSetting("cpus_per_task", f"must be at least 1, not {self.cpus_per_task}")
        for name in ("account", "partition", "constraint", "qos", "reservation", "gres"):
            value = getattr(self, name)
            if value is not None and (not _NAME.fullmatch(value) or value.startswith("-")):
                raise InvalidSetting(name, f"{value!r} is not a name: no blanks, no line breaks, no leading dash")
        if self.memory is not None and not _MEMORY.fullmatch(str(self.memory)):
            raise InvalidSetting(
                "memory", f"{self.memory!r} is not an amount: write 0 (all), or a number with K, M, G or T"
            )
        if self.time_limit is not None:
            seconds_of(self.time_limit)
        self._check_options()

    def words(self) -> list[str]:
        """`sbatch_options` as single words."""
        try:
            return (
                shlex.split(self.sbatch_options) if isinstance(self.sbatch_options, str) else list(self.sbatch_options)
            )
        except ValueError as error:
            raise InvalidSetting("sbatch_options", f"cannot be split into words: {error}") from error

    def _check_options(self) -> None:
        takes_value = False
        for word in self.words():
            if "\0" in word or "\n" in word:
                raise InvalidSetting("sbatch_options", f"{word!r} holds a NUL or a line break")
            if not word.startswith("-"):
                if not takes_value:
                    raise InvalidSetting(
                        "sbatch_options", f"{word!r} is not an option; sbatch would take it for a script"
                    )
                takes_value = False
                continue
            takes_value = "=" not in word and word not in _FLAGS
            if word in ("-", "--"):
                raise InvalidSetting("sbatch_options", f"{word!r} is not an option")
            name = word.split("=", 1)[0]
            for option, short in KEEPER_OPTIONS.items():
                # sbatch takes any unambiguous beginning of a long option, and a value glued to a short one
                begins = name.startswith("--") and len(name) > 3 and option.startswith(name)
                if begins or name == option or (short and word.startswith(short) and not word.startswith("--")):
                    raise InvalidSetting(
                        "sbatch_options", f"{word!r} is not yours to set: the keeper owns {option}. Leave it out."
                    )

    @property
    def seconds(self) -> int | None:
        """The time limit in seconds, None for the partition's default."""
        return None if self.time_limit is None else seconds_of(self.time_limit)

    def sbatch_arguments(self) -> list[str]:
        """The options of sbatch for this request, one word each; the user's own come last and win."""
        arguments = [f"--nodes={self.nodes}"]
        for option, value in (
            ("account", self.account),
            ("partition", self.partition),
            ("constraint", self.constraint),
            ("cpus-per-task", self.cpus_per_task),
            ("mem", self.memory),
            ("qos", self.qos),
            ("reservation", self.reservation),
            ("gres", self.gres),
        ):
            if value is not None:
                arguments.append(f"--{option}={value}")
        if self.exclusive:
            arguments.append("--exclusive")
        if self.seconds is not None:
            arguments.append(f"--time={slurm_time(self.seconds)}")
        return arguments + self.words()
