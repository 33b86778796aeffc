"""Requests for nodes: the options of `sbatch`, checked before a node is asked for."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_brayns.errors import InvalidSetting

# Options that the keeper's mechanism sets itself, with their short forms; a user's value would break it.
KEEPER_OPTIONS = {
    "--array": "-a", "--job-name": "-J", "--requeue": "", "--no-requeue": "", "--wait": "-W", "--output": "-o",
    "--error": "-e", "--input": "-i", "--signal": "", "--no-kill": "-k", "--parsable": "", "--wrap": "",
    "--nodes": "-N", "--open-mode": "", "--chdir": "-D", "--test-only": "", "--clusters": "-M", "--export": "",
    "--quiet": "-Q", "--verbose": "-v", "--help": "-h", "--version": "-V", "--usage": "-u", "--get-user-env": "",
    "--comment": "",
}  # fmt: skip


def _long(names: str) -> frozenset[str]:
    return frozenset(f"--{name}" for name in names.split())


# Options of sbatch that take the word behind them, and options that take none: a word behind one of those would be
# taken for the script.
_TAKE_A_WORD = _long(
    "account begin bb bbf cluster-constraint constraint container core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task "
    "deadline delay-boot dependency distribution exclude extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket "
    "gpus-per-task gres gres-flags hint licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus "
    "network nodelist ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket partition power prefer priority "
    "profile qos reservation sockets-per-node switches thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid "
    "wait-all-nodes wckey"
)
_FLAGS = _long(
    "contiguous exclusive hold ignore-pbs nice overcommit oversubscribe propagate reboot reset-env resv-ports spread-job stepmgr "
    "use-min-nodes"
)
_SHORT_FLAGS, _SHORT_TAKE_A_WORD = "HOs", "ABCFGLSbcdmnpqtwx"  # behind a flag another may follow, as in `-sH`
# Options of sbatch's own by which somebody says what nodes it may be: then none is left out.
_CHOOSE = _long(
    "nodelist nodefile exclude reservation partition constraint cluster-constraint gres gpus gpus-per-node gpus-per-task"
)
_SHORT_CHOOSE = "wFxpCG"
_LONGEST_NAME, _LONGEST_WORD, _MOST_WORDS = 1024, 8192, 1000  # the kernel takes no argument of more than 128 KiB
MOST_NODES, _MOST_CPUS, _MOST_SECONDS = 65_533, 1_000_000, 10 * 365 * 86_400
_MEMORY = re.compile(r"[0-9]{1,15}[KMGTkmgt]?[Bb]?")
_TIMES = (
    (re.compile(r"(\d{1,9})-(\d{1,9}):(\d{1,9}):(\d{1,9})"), (86400, 3600, 60, 1)),
    (re.compile(r"(\d{1,9})-(\d{1,9}):(\d{1,9})"), (86400, 3600, 60)),
    (re.compile(r"(\d{1,9})-(\d{1,9})"), (86400, 3600)),
    (re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9})"), (3600, 60, 1)),
    (re.compile(r"(\d{1,9}):(\d{1,9})"), (60, 1)),
    (re.compile(r"(\d{1,9})"), (60,)),
)


def minutes_of(value: Any) -> Any:
    """A bare number as sbatch takes it, minutes: 90.0 of a JSON file is 90. Whatever is no float is returned as it is.

    :raises InvalidSetting: it is no whole number.
    """
    if not isinstance(value, float):
        return value
    if value != value // 1:  # nor are NaN and infinity
        raise InvalidSetting(
            "time_limit",
            f"{value:g} is no whole number of minutes.",
            remedy="write minutes, H:MM:SS or D-HH:MM:SS as for sbatch, or a Duration.",
        )
    return int(value)


def seconds_of(value: timedelta | str | int, field_name: str = "time_limit") -> int:
    """The seconds of a duration.

    :param value: a timedelta (a pendulum Duration is one), or text in one of Slurm's spellings: `minutes`,
        `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` or `days-hours:minutes:seconds`
        (https://slurm.schedmd.com/sbatch.html#OPT_time).
    :param field_name: what errors call the value.
    :raises InvalidSetting: the text is spelled otherwise, or the duration is nothing or less.
    """
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
    else:
        text = _text(value, field_name).strip()
        for pattern, factors in _TIMES:
            if match := pattern.fullmatch(text):
                seconds = sum(int(part) * factor for part, factor in zip(match.groups(), factors, strict=True))
                break
        else:
            raise InvalidSetting(
                field_name,
                f"{text[:80]!r} is not a time.",
                remedy="write minutes, H:MM:SS or D-HH:MM:SS as for sbatch, or a Duration.",
            )
    if not 0 < seconds <= _MOST_SECONDS:
        raise InvalidSetting(field_name, f"must be more than nothing and at most ten years, not {value}")
    return seconds


def _text(value: object, field_name: str) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        raise InvalidSetting(field_name, "It is too large a number.", remedy="make it smaller.") from None


def slurm_time(seconds: int) -> str:
    """A number of seconds in Slurm's spelling `D-HH:MM:SS`."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def _is_sayable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not {"\0", "\n"} & set(text)


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return False
    return value.isprintable() and " " not in value and not value.startswith("-")


def _chooses(word: str) -> bool:
    """Tell whether a word of sbatch's options may be one that says which nodes it may be."""
    if word.startswith("--"):
        name = word.partition("=")[0]
        return any(option.startswith(name) for option in _CHOOSE)  # sbatch takes any unambiguous beginning
    letters = itertools.takewhile(lambda letter: letter in _SHORT_FLAGS, word[1:])
    return word.startswith("-") and word[1 + len(list(letters)) :][:1] in tuple(_SHORT_CHOOSE)


def _keepers(word: str, option: str) -> InvalidSetting:
    return InvalidSetting(
        "sbatch_options", f"{word[:80]!r} is not yours to set: the keeper owns {option}.", remedy="leave it out."
    )


@dataclass(frozen=True)
class AllocationRequest:
    """A request for nodes. The names of its fields and their meanings are sbatch's.

    :param nodes: how many nodes, at least 1.
    :param account: account to charge.
    :param partition: partition; None for the cluster's default.
    :param cpus_per_task: CPUs on each node (`-c`).
    :param memory: memory of each node (`--mem`), such as `4G`; `0` for all of it.
    :param exclusive: whether no other jobs may run on the nodes.
    :param constraint: features that the nodes must have.
    :param time_limit: how long the job may run: a Duration, or text in Slurm's spelling; None for the partition's
        default.
    :param qos: quality of service.
    :param reservation: reservation to run in.
    :param gres: generic resources, such as `gpu:1`.
    :param sbatch_options: further options of sbatch, each word as typed: `["--licenses=brayns", "-x", "r1i1n3"]`, or
        one text that is split as a shell splits it. Options that the keeper owns are refused.
        :raises InvalidSetting: a value cannot work; the error names the field.
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
        for name, most in (("nodes", MOST_NODES), ("cpus_per_task", _MOST_CPUS)):
            number = getattr(self, name)
            if name == "cpus_per_task" and number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
                raise InvalidSetting(name, f"must be a whole number from 1 to {most}, not {_text(number, name)[:80]}")
        for name in ("account", "partition", "constraint", "qos", "reservation", "gres"):
            value = getattr(self, name)
            if value is not None and not _is_name(value):
                raise InvalidSetting(
                    name,
                    f"{value[:80]!r} is not a name.",
                    remedy="write a name without blanks, line breaks, a leading dash, or anything invisible.",
                )
        if self.memory is not None and not _MEMORY.fullmatch(_text(self.memory, "memory")):
            raise InvalidSetting(
                "memory",
                f"{str(self.memory)[:80]!r} is not an amount.",
                remedy="write 0 (all), or a number with K, M, G or T.",
            )
        if self.time_limit is not None:
            seconds_of(self.time_limit)
        self._check_options()

    def words(self) -> list[str]:
        """The words of `sbatch_options`, one by one."""
        try:
            return (
                shlex.split(self.sbatch_options) if isinstance(self.sbatch_options, str) else list(self.sbatch_options)
            )
        except ValueError as error:
            raise InvalidSetting(
                "sbatch_options",
                f"They cannot be split into words: {error}.",
                remedy="close the quotes, or give a list.",
            ) from error

    @property
    def chooses_nodes(self) -> bool:
        """Whether the request says which nodes it may be, more than by a partition: others may not do for it."""
        if self.reservation is not None or self.constraint is not None or self.gres is not None:
            return True
        return any(map(_chooses, self.words()))

    def _check_options(self) -> None:
        words = self.words()
        if len(words) > _MOST_WORDS:
            raise InvalidSetting(
                "sbatch_options", f"They are {len(words)} words.", remedy=f"give at most {_MOST_WORDS}."
            )
        waiting = ""  # the option whose value the next word is
        unsure = ""  # an option of the site's own, which may take the next word, or none
        for word in words:
            shown = repr(word)[:80]
            if not isinstance(word, str) or len(word) > _LONGEST_WORD or not _is_sayable(word):
                raise InvalidSetting(
                    "sbatch_options",
                    f"{shown} is too long, or holds a NUL, a line break or half a character",
                    remedy="make it shorter, in one line of whole characters.",
                )
            if word == ":":
                raise InvalidSetting("sbatch_options", "':' would begin another job's options", remedy="leave it out.")
            if waiting:
                waiting = ""
                continue
            if not word.startswith("-"):
                raise InvalidSetting(
                    "sbatch_options",
                    f"{shown} is not an option; sbatch would take it for a script.",
                    remedy="write values as --option=value.",
                )
            alone = word.startswith("--") and ("=" in word or word in _FLAGS)
            if unsure and not alone:  # if the option took this word, the one behind it would be the script
                raise InvalidSetting(
                    "sbatch_options",
                    f"{unsure[:80]!r} is not known here.",
                    remedy=f"write {unsure[:80]}=value, or put it last if it has none.",
                )
            unsure = word if word.startswith("--") and not alone and word not in _TAKE_A_WORD else ""
            if word in ("-", "--"):
                raise InvalidSetting(
                    "sbatch_options",
                    f"{shown} is not an option",
                    remedy="begin options with a dash, and write values as --option=value.",
                )
            waiting = self._check_long(word) if word.startswith("--") else self._check_short(word)
        if waiting:
            raise InvalidSetting(
                "sbatch_options", f"{waiting!r} needs a value behind it", remedy="write --option=value."
            )

    @staticmethod
    def _check_long(word: str) -> str:
        """Check a word that begins with `--`; return it if the next word is its value, else an empty text."""
        name = word.split("=", 1)[0]
        for option in KEEPER_OPTIONS:
            if option.startswith(name):  # sbatch takes any unambiguous beginning of an option
                raise _keepers(word, option)
        return name if name == word and name in _TAKE_A_WORD else ""

    @staticmethod
    def _check_short(word: str) -> str:
        """Check a word of short options, such as `-c`, `-c72` or `-sH`; return it if the next word is its value, else
        an empty text.
        """
        for at, letter in enumerate(word[1:], 1):
            for option, short in KEEPER_OPTIONS.items():
                if short == f"-{letter}":
                    raise _keepers(word, option)
            if letter in _SHORT_TAKE_A_WORD:
                return word if at == len(word) - 1 else ""
            if letter not in _SHORT_FLAGS:
                raise InvalidSetting(
                    "sbatch_options",
                    f"{word[:80]!r} is not an option that is known here",
                    remedy="write it as --option=value, in its long form, or leave it out.",
                )
        return ""

    @property
    def seconds(self) -> int | None:
        """The time limit in seconds; None for the partition's default."""
        return None if self.time_limit is None else seconds_of(self.time_limit)

    def sbatch_arguments(self) -> list[str]:
        """The options of sbatch for this request, word by word; `sbatch_options` come last, and so win."""
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
