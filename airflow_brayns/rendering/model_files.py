"""Files that a model is made of besides its own: a circuit's configuration names cells and reports, a volume's header its
data. A simulation that is run once more changes them, and not the file that the specification names.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.files import sizes, texts
from airflow_brayns.movie.fields import is_path
from airflow_brayns.movie.model import Model

_NAMING = ("SONATA loader", "BBP loader", "mhd-volume", "DTI loader")
_DEEPEST = 2  # a simulation's configuration names the circuit's, which names the cells
_MOST_NAMES, _MOST_TEXTS = 500, 20
_LONGEST_NAME = 1000
# The words behind which a configuration tells the folder of its results (SONATA's, BlueConfig's).
_FOLDERS = ("output_dir", "outputroot", "circuitpath", "currentdir")


async def files_behind(cluster: Cluster, models: Sequence[Model]) -> str:
    """Size and time of the files that the models' own files name, as far as the cluster sees them; empty for models that
    name none.
    """
    found: dict[str, str] = {}
    paths = list(dict.fromkeys(model.path for model in models if model.loader_name in _NAMING))
    for _ in range(_DEEPEST):
        if not paths:
            break
        named = [one for path, text in (await texts(cluster, paths)).items() for one in named_in(path, text)]
        new = [one for one in dict.fromkeys(named) if one not in found and one not in paths][:_MOST_NAMES]
        there = await sizes(cluster, new) if new else {}
        found |= there
        paths = [path for path in there if posixpath.splitext(path)[1] in (".json", "")][:_MOST_TEXTS]
    return "\n".join(f"{path} {known}" for path, known in sorted(found.items()))


def named_in(path: str, text: str) -> list[str]:
    """The paths of files that a configuration's text may name; many of them are none.

    :param path: the configuration's own path, to which others are relative.
    :param text: JSON, or words as in a BlueConfig or a volume's header.
    """
    folder = posixpath.dirname(path)
    try:
        value = json.loads(text)
        pairs = list(_pairs(value, ""))
    except (ValueError, RecursionError):
        value, words = None, ["", *re.split(r"[\s=]+", text)]
        pairs = list(pairwise(words))
    known = _variables(value, folder)
    pairs = [(key, _spelled_out(word, known)) for key, word in pairs if word]
    places = [folder, *(posixpath.join(folder, word) for key, word in pairs if key.lower() in _FOLDERS)]
    names = dict.fromkeys(name for _, word in pairs for name in (word, *_reports(word)))
    found = (posixpath.normpath(posixpath.join(place, name)) for name in names for place in places)
    return [one for one in dict.fromkeys(found) if len(one) < _LONGEST_NAME and is_path(one) and one.isprintable()]


def _reports(word: str) -> list[str]:
    """The files of a report of that name."""
    return [] if "." in word else [f"{word}.h5", f"{word}.bbp"]


def _pairs(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Each text of a JSON value with the key that it stands behind; a key is a text, too, since a report's name is one."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield "", name
            yield from _pairs(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _pairs(one, key)


def _variables(value: Any, folder: str) -> dict[str, str]:
    """The names that SONATA's `manifest` gives to folders, longest first."""
    told = value.get("manifest") if isinstance(value, dict) else None
    known = {name: one for name, one in told.items() if isinstance(one, str)} if isinstance(told, dict) else {}
    longest = sorted(filter(None, known), key=len, reverse=True)
    return {name: posixpath.join(folder, _spelled_out(known[name], {one: known[one] for one in longest if one != name})) for name in longest}  # fmt: skip


def _spelled_out(word: str, known: dict[str, str]) -> str:
    for name, folder in known.items():
        word = word.replace(name, folder)
    return word
