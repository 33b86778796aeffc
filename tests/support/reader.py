"""README.md and docs/ as somebody reads them: which blocks of code there are, and where."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import REPO

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"^( *)\.\. (code-block|literalinclude):: *(.*)$")
_OPTION = re.compile(r"^ +:([\w-]+): *(.*)$")


@dataclass(frozen=True)
class Block:
    """A block of code.

    :param page: path of its file under the project.
    :param line: of its beginning; the first is 1.
    :param language: as the page says; empty where it says none.
    :param text: what stands there.
    :param caption: of which file it is, where the page says so.
    """

    page: str
    line: int
    language: str
    text: str
    caption: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [REPO / "README.md", *sorted((REPO / "docs").rglob("*.rst"))]


def blocks() -> list[Block]:
    """All blocks of all pages, in the order in which they are read."""
    return [block for page in pages() for block in (_of_markdown if page.suffix == ".md" else _of_rst)(page)]


def _of_markdown(page: Path) -> Iterator[Block]:
    text, name = page.read_text(), page.relative_to(REPO).as_posix()
    for found in _FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def _of_rst(page: Path) -> Iterator[Block]:
    lines, name = page.read_text().splitlines(), page.relative_to(REPO).as_posix()
    for number, line in enumerate(lines):
        if found := _DIRECTIVE.match(line):
            indent, kind, argument = found.groups()
            body = _indented(lines[number + 1 :], len(indent))
            options = dict(option.groups() for one in body if (option := _OPTION.match(one)))
            text = textwrap.dedent("\n".join(one for one in body if not _OPTION.match(one))).strip("\n") + "\n"
            language = argument
            if kind == "literalinclude":
                text, language = _included((page.parent / argument).read_text(), options), options["language"]
            if language == "console":  # with prompts, and what is answered
                language, text = (
                    "bash",
                    "".join(f"{one[2:]}\n" for one in text.splitlines() if one.startswith(("$ ", "> "))),
                )
            yield Block(name, number + 1, language, text, options.get("caption", ""))
        elif line.endswith("::") and not line.lstrip().startswith(".."):
            yield Block(name, number + 1, "", "\n".join(_indented(lines[number + 1 :], len(line) - len(line.lstrip()))))


def _indented(lines: list[str], indent: int) -> list[str]:
    body = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        body.append(line)
    return body


def _included(text: str, options: dict[str, str]) -> str:
    if start := options.get("start-after"):
        text = text.partition(start)[2].partition("\n")[2]
    if end := options.get("end-before"):
        text = text.partition(end)[0].rpartition("\n")[0] + "\n"
    return textwrap.dedent(text)
