"""Reads SWC by the rules of MorphIO, with which braynsService reads morphologies, and refuses what it refuses in its words."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ROOT = -1
SOMA = 1
_KINDS = 20  # section types are 1 to 19
_INTEGER = re.compile(rb"\s*([+-]?\d+)")
_NUMBER = re.compile(rb"\s*([+-]?(?:inf(?:inity)?|nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))", re.IGNORECASE)
_FIELDS = (_INTEGER, _INTEGER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _INTEGER)


class MorphologyError(ValueError):
    """The file is refused; the text is the service's, with the colours that it gives the file's name."""


@dataclass(frozen=True)
class Sample:
    """One line: a point of a neurite or of the soma. `parent` is -1 for a root."""

    number: int
    kind: int
    point: tuple[float, float, float]
    radius: float
    parent: int
    line: int


def parse_swc(data: bytes, path: str) -> dict[int, Sample]:
    """The samples by number, in the file's order. Bytes of comments may be of any encoding.

    :param path: as the error names it.
    :raises MorphologyError: for a line that cannot be read, and for samples that are no tree.
    """
    samples: dict[int, Sample] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.strip(b"\n\r\t ")
        if text and not text.startswith(b"#"):
            sample = _sample(line, number, path)
            if sample.number in samples:
                first = samples[sample.number]
                told = f"Repeated ID: {first.number}\nID already appears here: \n{_link(path, first.line, 'info')}"
                raise MorphologyError(_told(path, number, told, "warning"))
            samples[sample.number] = sample
    _check_tree(samples, path)
    return samples


def _sample(line: bytes, number: int, path: str) -> Sample:
    """As `sscanf` reads it: what follows the seventh number does not matter."""
    at, words = 0, []
    for pattern in _FIELDS:
        found = pattern.match(line, at)
        if found is None:
            break
        words.append(found[1])
        at = found.end()
    if not words or int(words[0]) < 0:
        raise MorphologyError("Negative IDs are not supported")
    if len(words) == 7 and int(words[6]) < _ROOT:
        raise MorphologyError("Negative ParentIDs are not supported")
    if len(words) < 7:
        raise MorphologyError(_told(path, number, "Unable to parse this line"))
    kind = int(words[1])
    if not 0 < kind < _KINDS:
        raise MorphologyError(_told(path, number, f"Unsupported section type: {kind}"))
    x, y, z, radius = (float(word) for word in words[2:6])
    return Sample(int(words[0]), kind, (x, y, z), radius, int(words[6]), number)


def _check_tree(samples: dict[int, Sample], path: str) -> None:
    children: dict[int, list[Sample]] = {}
    for sample in samples.values():
        children.setdefault(sample.parent, []).append(sample)
    for sample in samples.values():
        _check_sample(sample, samples, children, path)
    somata = [sample for sample in children.get(_ROOT, ()) if sample.kind == SOMA]
    if len(somata) > 1:
        lines = "".join("\n" + _told(path, sample.line, "") for sample in somata)
        raise MorphologyError(f"Multiple somata found: {lines}")


def _check_sample(sample: Sample, samples: dict[int, Sample], children: dict[int, list[Sample]], path: str) -> None:
    if sample.parent == sample.number:
        raise MorphologyError(_told(path, sample.line, "Parent ID can not be itself"))
    parent = samples.get(sample.parent)
    if sample.kind == SOMA and sample.parent != _ROOT:
        forks = [child for child in children.get(sample.number, ()) if child.kind == SOMA]
        if len(forks) > 1:
            lines = "".join(_told(path, child.line, "", "warning") for child in forks)
            told = f"Found soma bifurcation\nThe following children have been found:{lines}"
            raise MorphologyError(_told(path, sample.line, told))
        if parent is not None and parent.kind != SOMA:
            raise MorphologyError(_told(path, sample.line, "Found a soma point with a neurite as parent"))
    if sample.parent != _ROOT and parent is None:
        told = f"Sample id: {sample.number} refers to non-existant parent ID: {sample.parent}"
        raise MorphologyError(_told(path, sample.line, told))


def _told(path: str, line: int, text: str, level: str = "error") -> str:
    return f"\n{_link(path, line, level)}\n{text}"


def _link(path: str, line: int, level: str) -> str:
    color = {"info": "34", "warning": "33", "error": "31"}[level]
    return f"\x1b[1;{color}m{path}:{line}:{level}\x1b[0m"
