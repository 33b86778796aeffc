"""The lines by which the scripts on the cluster answer: one table, by which Python reads and the scripts are tested.

docs/protocol.rst says what each of them means. A line is a word and its fields, with one blank between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

REST = "..."  # written behind the last field's name: the field is all that is left of the line, which may be nothing
CODED = "*"  # written behind a field's name: the field is in base64, since it may hold anything


@dataclass(frozen=True)
class Line:
    """A kind of line in an answer.

    :param word: the word that such a line begins with.
    :param fields: names of its fields, marked with `REST` and `CODED`.
    """

    word: str
    fields: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Line:
        """Read a kind of line as the table writes it, such as `log NAME N SERVICE OFFSET BYTES*`."""
        word, *fields = text.split(" ")
        return cls(word, tuple(fields))

    def __str__(self) -> str:
        return " ".join((self.word, *self.fields))

    def split(self, rest: str) -> list[str] | None:
        """Split what stands behind the word into its fields; None where it is not of this form."""
        if not self.fields:
            return None if rest else []
        most = len(self.fields) - 1 if self.fields[-1].endswith(REST) else -1
        found = rest.split(" ", most)
        if most >= 0 and len(found) == most:
            found.append("")
        return found if len(found) == len(self.fields) else None


def lines(*kinds: str) -> Mapping[str, Line]:
    """Kinds of lines by their words; within one answer each word has one meaning."""
    found = {line.word: line for line in map(Line.of, kinds)}
    assert len(found) == len(kinds), "a word with two meanings"
    return MappingProxyType(found)


_ROOM = ("full FOLDER...", "unwritable FOLDER...")
_TRUST = ("untrusted REASON FOLDER* ACCOUNT*",)
# A line that begins an allocation's lines, or a service's, is read in any form: the lines behind it must not become its
# neighbour's.
_FOLDER = (
    "allocation NAME N...", "gone", "job JOB...", "nodes NODES...", "released", "ending WHY*", "ended WHY*", "heartbeat BEAT...",
    "unheard SECONDS", "until TIME...", "next N", "owner TOKEN...", "service SERVICE...", "node NODE...", "listening PORT...", "pid PID...", "exit EXIT*",
)  # fmt: skip
_QUEUE = ("queue LINE...", "answered", "silent WHY*")

# The kinds of lines that each command of `scripts.COMMANDS` may answer with.
ANSWERS: Mapping[str, Mapping[str, Line]] = MappingProxyType(
    {
        "submit": lines(
            "incarnation N", "adopted FLAG", "job JOB...", "folder FOLDER...", "busy WHY...", "unsure WHY*", "foreign DEPLOYMENT",
            "refused CODE WHY*", "queued JOBS", "over", "avoided NODES...", *_ROOM, *_TRUST,
        ),
        "look": lines(*_FOLDER, "about ABOUT*", "certificate NAME N PEM*", "log NAME N SERVICE OFFSET BYTES*", *_QUEUE, "partitions LIST..."),
        "find": lines(
            "at NAME N SERVICE STATE NODE...", "host HOST KNOWN...", "examined NAME N SERVICE", *_FOLDER, "folder FOLDER*",
            "idle SECONDS...", "asked PORT...", "tail LINES*", *_QUEUE, "socket WHOSE ACCOUNTS...", "failed WHY*",
            "keeper LINES*", "sacct LINES*",
        ),
        "lease": lines(
            "used", "driving NAME PLACE SECONDS", "undriven NAME PLACE", "occupied NAME PLACE SECONDS BY*", "foreign DEPLOYMENT", *_ROOM
        ),
        "release": lines(
            "found FOLDER...", "released NAME N HOW...", "silent WHY*", "taken NAME...", "cancelled NAME N", "kept NAME N", "foreign DEPLOYMENT",
            "asked",
        ),
        "services": lines(
            "added SERVICE", "present SERVICE", "wanted DIGEST...", "ended WHY*", "stopped SERVICE", "absent SERVICE", "foreign DEPLOYMENT",
            "part FILE TEXT*", "known DIGEST...", "proof DIGEST...", *_ROOM, *_TRUST,
        ),
        "extend": lines(
            "newest N JOB...", "room", "raised", "waits", "over", "refused CODE WHY*", "silent WHY*", "foreign DEPLOYMENT", "full FOLDER...",
        ),
        "files": lines("program PATH...", "there", "installed", "file SIZE SECONDS", "text TEXT*", "unknown", *_ROOM, *_TRUST),
        "inspect": lines(
            "program NAME VERSION...", "missing NAME", "accounts NAMES*", "partitions LINES*", "associations LINES*", "reservations LINES*",
            "known PARTITION", "unknown PARTITION", "tested CODE SAID*", "kept FOLDER...",
            "legible FILE...", "ran CODE SAID*", "failing NODE JOBS WHY*", *_QUEUE, *_ROOM, *_TRUST,
        ),
        "step": lines("failed WHY*"),  # the script on the node prints what it likes besides
    }
)  # fmt: skip

# The files of an allocation's folder. They appear by rename, but for those that a scheduler or a service writes to.
FILES = (
    "keeper.sh", "keeper.log", "about", "asked", "attempt", "job", "lease", "owner.TOKEN", "cancelled", "driven", "driver.TOKEN",
    "release", "until", "next", "limit", "ending", "ended", "heartbeat", "nodes", "claim/job", "claim/ends", "claim/nodes", "tls/cert.pem", "tls/key.pem",
    "services/SERVICE/index", "services/SERVICE/port", "services/SERVICE/port.sed", "services/SERVICE/proof", "services/SERVICE/wanted",
    "services/SERVICE/command", "services/SERVICE/node", "services/SERVICE/pid", "services/SERVICE/log",
    "services/SERVICE/launch.log", "services/SERVICE/listening", "services/SERVICE/bytes", "services/SERVICE/stop",
    "services/SERVICE/exit", "services/SERVICE/starting", "services/SERVICE/driven", "services/SERVICE/driver.TOKEN",
)  # fmt: skip


def read(kinds: Mapping[str, Line], answer: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of an answer that are of some kinds, each as its word and its fields; others are passed over,
    never believed.

    :param answer: what the command printed; it is split at line feeds alone, since a job's comment may hold what else
        ends a line.
    """
    for line in answer.split("\n"):
        word, _, rest = line.partition(" ")
        fields = kinds[word].split(rest) if word in kinds else None
        if fields is not None:
            yield word, fields
