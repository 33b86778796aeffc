"""Movies as Python: what their specification says of the file, and of the functions that a service's frames come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic_core import to_jsonable_python

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.fields import Part
from airflow_brayns.movie.model import Model
from airflow_brayns.movie.specification import MovieSpecification


class ScriptSource(Part):
    """The Python that a movie is made by.

    :param file: the file's absolute path on the worker.
    :param arguments: the values that `scene` and `frame` are given besides the service and the frame's number.
    :param digests: by name, the digests of what the pictures depend on: the file, the modules beside it that it imports,
        the `inputs` that lie on the worker.
    :param inputs: the paths of data files that it names.
    """

    file: str
    arguments: dict[str, Any] = {}
    digests: dict[str, str] = {}
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folders, for messages."""
        return self.file.rpartition("/")[2]

    def plain(self, name: str) -> dict[str, Any]:
        """The source as JSON values.

        :param name: the file's name, for errors.
        :raises InvalidSetting: an argument is no plain value; the error names it.
        """
        for argument, value in self.arguments.items():
            try:
                to_jsonable_python(value)
            except ValueError:
                raise InvalidSetting(
                    f"{name}: {argument}",
                    f"is {type(value).__name__}, which is no plain value.",
                    remedy="give the functions numbers, texts, lists and dicts of them.",
                ) from None
        return self.model_dump(mode="json")


class ScriptSpecification(MovieSpecification):
    """The specification of a movie whose scene and camera are Python; the other fields are as in YAML.

    :param script: the Python; it stands for models, lights and camera.
    """

    is_python: ClassVar[bool] = True

    models: tuple[Model, ...] = ()
    script: ScriptSource

    def _problems(self) -> Iterator[tuple[str, str]]:
        for word, text in super()._problems():
            if word == "codec" and "codec" not in self.model_fields_set:  # it is its renderer that the file sets
                yield "renderer", f"{text}, such as brayns.Color4(0, 0, 0, 1): the client's own is transparent"
            else:
                yield word, text


def script_of(specification: MovieSpecification) -> ScriptSource | None:
    """The Python that a movie is made by; None where its specification tells all."""
    return specification.script if isinstance(specification, ScriptSpecification) else None


def specification_of(value: Any) -> MovieSpecification:
    """Read a specification that is given as plain values, as `MovieSpecification.plain` gives them, of either kind.

    :raises InvalidSetting: the values are no specification.
    """
    kind = ScriptSpecification if isinstance(value, Mapping) and "script" in value else MovieSpecification
    return kind.check(value)


def without_values(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A specification as plain values, with digests in place of the values that its Python is given: one may be a secret,
    and a manifest lies beside the frames.
    """
    source = plain.get("script")
    if not isinstance(source, Mapping) or not source.get("arguments"):
        return dict(plain)
    known = {name: _digest(value) for name, value in source["arguments"].items()}
    return {**plain, "script": {**source, "arguments": known}}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def why_changed(before: Mapping[str, Any], now: MovieSpecification, *, scene: bool) -> str:
    """Why frames that are there are not those of a movie's Python any more, in words; empty where it is none of Python,
    or nothing of it has changed.

    :param before: the specification in the frames' manifest, as plain values.
    :param scene: whether the digest of the scene is another one.
    """
    source = script_of(now)
    if source is None:
        return ""
    try:
        known = ScriptSource.model_validate(before.get("script"))
    except ValueError:
        return f"they are not from {source.name}"
    old, new = known.digests, source.digests
    found = [f"{name} is new" for name in new if name not in old]
    found += [f"{name} is not used any more" for name in old if name not in new]
    found += [f"{name} has changed" for name in new if old.get(name, new[name]) != new[name]]
    given = {name: _digest(value) for name, value in source.arguments.items()}
    for name in sorted({*known.arguments, *given}):
        if known.arguments.get(name) != given.get(name):
            found.append(f"the argument {name} has another value")
    if scene and not found:
        found = ["a file of `inputs` has changed on the cluster"]
    return ", ".join(found)


@dataclass(frozen=True)
class Functions:
    """The functions of one service, with the values for their arguments.

    :param frame: the function that says what a frame is.
    :param scene: the function that makes the scene; None where there is none.
    :param for_frame, for_scene: the further arguments of each, by name.
    """

    frame: Callable[..., Any]
    scene: Callable[..., Any] | None = None
    for_frame: Mapping[str, Any] = field(default_factory=dict)
    for_scene: Mapping[str, Any] = field(default_factory=dict)


class Script(Protocol):
    """An interface: whatever the functions come from."""

    @property
    def folder(self) -> str:
        """The folder of the file, whose lines are the user's own."""
        ...

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        ...

    def load(self) -> Functions:
        """Functions for one service, with globals of their own where they come from a file."""
        ...
