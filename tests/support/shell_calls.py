"""What a script of sh calls, and whether all of it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

BUILT_IN = frozenset(
    """[ : break case cd command continue do done elif else esac exec exit export fi for if in kill local printf read
    return set shift then trap umask unset until wait while""".split()  # noqa: SIM905 - a list of one word a line says no more
)
# What machines of a cluster have to have; `bash` starts the services there.
PROGRAMS = frozenset(
    """awk base64 basename bash cat chmod cut date dd dirname echo env find flock getent grep head hostname id ls mkdir mktemp
    mv nproc readlink rm rmdir sacct sbatch scancel scontrol sed setpriv setsid sh sha256sum shasum sleep sort squeue srun ss
    stat tail timeout touch tr uname wc xargs""".split()  # noqa: SIM905
)
FUNCTION = re.compile(r"^ *([a-z_]+)\(\) [{(]", re.MULTILINE)
_TEXT = '"'  # stands where a text or a substitution was
_HEREDOC = re.compile(r"<<'?([A-Z_]+)'?([^\n]*)\n.*?\n\1$", re.DOTALL | re.MULTILINE)
_CASE = re.compile(r"^[^\s()]+(?: \| [^\s()]+)*\)", re.MULTILINE)  # a pattern of a `case`
_CALL = re.compile(
    r"(?:^|[;|&{(!]|\b(?:then|else|do|if|elif|while|until)\b) *(?:[a-z_A-Z]+=[^\s;]* +)*([a-z_][a-z0-9_]*|\[)(?=[\s;)|&]|$)",
    re.MULTILINE,
)


def functions(text: str) -> list[str]:
    """The functions that a script defines."""
    return FUNCTION.findall(text)


def called(text: str) -> set[str]:
    """Every word of a script that stands where a command does."""
    code = re.sub(r"^ +", "", _unquoted(_HEREDOC.sub(r"\2", text)), flags=re.MULTILINE)
    code = re.sub(r"\bcase [^\n]*? in\b", "", FUNCTION.sub("{", code))
    return set(_CALL.findall(_CASE.sub("", code)))


def missing(text: str) -> set[str]:
    """Functions that a script calls and does not define."""
    return called(text) - set(functions(text)) - BUILT_IN - PROGRAMS


def assigned(text: str) -> Iterator[tuple[str, set[str]]]:
    """Each function of a script of several lines, and the names that it sets and does not declare as its own."""
    for name, body in re.findall(r"^([a-z_]+)\(\) \{[^\n]*\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL):
        code = re.sub(r"-v [a-z_]+=|\bdd .*", "", _unquoted("\n" + _HEREDOC.sub(r"\2", body)))
        found = re.findall(r"(?:^|[\s;{(])([a-z_]+)=|\bfor ([a-z_]+)\b|\bread (?:-r )?([a-z_ ]+)", code)
        own = re.findall(r"^ *local ([a-z_ ]+)$", code, re.MULTILINE)
        yield name, set(" ".join(map(" ".join, found)).split()) - set(" ".join(own).split()) - {"_"}


def _unquoted(text: str) -> str:
    """A script without its comments and texts; a command that is substituted in a text becomes a line of its own."""
    out: list[str] = []
    open_: list[str] = []  # texts and parentheses
    at = 0
    while at < len(text):
        char, within = text[at], bool(open_) and open_[-1] == '"'
        if char == "\\":
            out.append(" " if text[at + 1] == "\n" else _TEXT)
            at += 1
        elif char == '"':
            open_.pop() if within else open_.append('"')
            out.append(_TEXT)
        elif text.startswith("$((", at):
            opening = len(text) - at - 1 - len(text[at + 1 :].lstrip("("))
            open_ += ")" * opening
            at += opening
        elif text.startswith("$(", at):
            open_.append(")")
            out.append("\n")
            at += 1
        elif within:
            pass
        elif char == "'":
            at = text.index("'", at + 1)
            out.append(_TEXT)
        elif char == "#" and text[at - 1] in " \n":
            at = text.index("\n", at) - 1
        elif char == "(" and text[at + 1] != ")":
            open_.append(")")
            out.append("\n")
        elif char == ")" and open_:
            open_.pop()
            out.append(f";{_TEXT}")
        else:
            out.append(char)
        at += 1
    return "".join(out)
