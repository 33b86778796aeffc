"""Files of Python that make a movie: reading one, and finding what is wrong with it before a node is asked for."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.fields import check_is_file, path_problem, unknown_key
from airflow_brayns.movie.renderer import Renderer
from airflow_brayns.movie.script import Functions, ScriptSource, ScriptSpecification
from airflow_brayns.movie.script_digest import (
    assigned,
    beside,
    imported,
    inputs_of,
    makes_movie,
    modules_of,
    names_read,
    parse,
    trees_of,
)
from airflow_brayns.movie.script_import import OwnModules
from airflow_brayns.movie.script_thread import GivenUp, apart
from airflow_brayns.movie.script_traceback import line_of, traceback_of
from airflow_brayns.movie.yaml_text import Text

SUFFIX = ".py"
# The fields of a specification that a file may set, by globals of their names.
SETTINGS = (
    "frames", "fps", "resolution", "tiles", "output", "format", "quality", "codec", "crf", "renderer", "frame_range", "overlays", "budget",
)  # fmt: skip
_HAVE_A_DEFAULT = ("fps", "resolution")  # what a movie has whether or not a file sets it, and shows in every frame
_OF_RENDERER = frozenset({*Renderer.model_fields} - {"name"})
FORM = "def frame(service, number)"
_numbers = itertools.count(1)


def is_movie(path: Path) -> bool:
    """Tell whether a file of Python may be a movie, rather than a module of one; one that cannot be read may."""
    try:
        tree = parse(path.read_bytes(), path.name)
    except (OSError, InvalidSetting):
        return True
    return makes_movie(tree)


class _Places:
    """The lines on which a file sets its globals."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines

    def line(self, location: tuple[int | str, ...]) -> int:
        """See `Text.line`."""
        return self._lines.get(str(location[0]), 0) if location else 0


@dataclass(frozen=True)
class ScriptFile:
    """A file of Python that makes a movie. See `Script`.

    :param path: the file's absolute path.
    :param values: the values by name that `scene` and `frame` may be given as further arguments.
    :param known: by path from its folder, the bytes that it, the modules beside it and its `inputs` must have; empty
        where any are right.
    """

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: ScriptSource) -> ScriptFile:
        """The file of a specification, as it was when that was made.

        :raises RenderingFailed: it has changed since.
        """
        found = cls(Path(source.file), source.arguments)
        digests = modules_of(found.path, found._tree())
        inputs = {path: source.digests[path] for path in source.inputs if path in source.digests}
        for name, digest in {**digests, **{path: inputs_of([Path(path)]).get(path, "") for path in inputs}}.items():
            if source.digests.get(name) != digest:
                raise _changed(name)
        known = {name: inputs_of([found.path.parent / name]).popitem()[1] for name in digests}
        return replace(found, known={**known, **inputs})

    @property
    def name(self) -> str:
        """See `Script`."""
        return self.path.name

    @property
    def folder(self) -> str:
        """See `Script`."""
        return str(self.path.parent)

    def load(self) -> Functions:
        """See `Script.load`.

        :raises InvalidSetting: it cannot be loaded, or has no functions of the right form; the error names the line.
        :raises RenderingFailed: it has changed since its specification was read.
        """
        for name, digest in self.known.items():
            path = self.path.parent / name
            if inputs_of([path]).get(str(path)) != digest:
                raise _changed(name)
        return self._functions(self._run(self._bytes(), self.known))

    def specification(self) -> ScriptSpecification:
        """The specification that the file describes.

        :raises InvalidSetting: the file cannot work; the error names file, line and remedy.
        """
        tree = self._tree()
        self._check_imports(tree)
        modules = modules_of(self.path, tree)
        found = apart(partial(self._run, self._bytes(), modules))
        functions = self._functions(found)
        lines = {name.id: name.lineno for name in assigned(tree)}
        settings = {
            name: plain_setting(found[name]) for name in SETTINGS if name in found and not _is_code(found[name])
        }
        self._check_names(tree, found)
        if "frames" not in settings:
            raise InvalidSetting(
                f"{self.name}: frames", "There is none.", remedy="say how many at the top, such as `frames = 250`."
            )
        inputs = self._inputs(found.get("inputs"), lines.get("inputs"))
        source = ScriptSource(
            file=str(self.path),
            arguments={**functions.for_scene, **functions.for_frame},
            digests={**modules, **inputs_of(map(Path, inputs))},
            inputs=inputs,
        )
        values = {**settings, "script": source.plain(self.name)}
        return cast(
            ScriptSpecification,
            ScriptSpecification.check(values, self.name, self.path.parent, cast(Text, _Places(lines))),
        )

    # ---- loading -----------------------------------------------------------------------------------------------
    def _tree(self) -> ast.Module:
        return parse(self._bytes(), self.name)

    def _bytes(self) -> bytes:
        check_is_file("specification", self.path)
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InvalidSetting(
                "specification",
                f"{self.path} cannot be read: {error.strerror}",
                remedy="correct the path, or its rights.",
            ) from None

    def _run(self, source: bytes, modules: Iterable[str]) -> dict[str, Any]:
        """Run the file as a module of its own, and return its globals. Nothing is parsed to a tree here, which Python 3.11
        does in one thread at a time only.

        :param modules: it and those beside it, by their paths, which are loaded afresh.
        """
        module = types.ModuleType(f"{self.path.stem}#{next(_numbers)}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # dataclasses look themselves up there
        inner = [Path(one) for one in modules if one != self.name]
        names = {one.parts[0].removesuffix(SUFFIX) for one in inner if not one.is_absolute()}
        own = OwnModules(self.folder, names)
        vars(module)["__builtins__"] = own.builtins
        try:
            with own.placed():
                exec(compile(source, str(self.path), "exec"), vars(module))
        except GivenUp:
            raise
        except BaseException as error:  # the code's own: this runs in no main thread, which alone hears Ctrl-C
            line = line_of(error, self.folder, self.path)
            where = f"{self.name} line {line}" if line else self.name
            connects = type(error).__module__.startswith("brayns.network.")
            remedy = "leave it out: `scene` and `frame` are given the service." if connects else "correct it."
            raise InvalidSetting(
                where, f"It fails when it is loaded. {traceback_of(error, self.folder)}", remedy=remedy
            ) from None
        return vars(module)

    def _check_imports(self, tree: ast.Module) -> None:
        """Check that what the file and the modules beside it import is here, also where that is done inside a function,
        which would be found out on the nodes.
        """
        folder = self.path.parent
        for name, of in trees_of(self.path, tree).items():
            for module, line, tried in imported(of):
                top = module.split(".")[0]
                if top and not tried and not beside(folder, top) and not (folder / top).is_dir() and not _is_here(top):
                    raise InvalidSetting(
                        f"{name} line {line}",
                        f"It imports {top}, which is not installed where this runs.",
                        remedy="install it there (pip install …), lay the module beside the file, or do without.",
                    )

    def _check_names(self, tree: ast.Module, found: Mapping[str, Any]) -> None:
        """Check that what the file sets and nothing reads is a setting, lest a mistyped one goes unnoticed."""
        known, read = (*SETTINGS, "inputs"), names_read(tree)
        for name in assigned(tree):
            value = found.get(name.id)
            if problem := _setting_problem(name.id, found, is_read=name.id in read):
                raise InvalidSetting(f"{self.name} line {name.lineno}, {name.id}", problem)
            if name.id in {*known, *read, "frame", "scene"} or value is None or _is_code(value) or name.id[0] == "_":
                continue
            if name.id in _OF_RENDERER:
                raise InvalidSetting(
                    f"{self.name} line {name.lineno}, {name.id}", unknown_key(name.id, known, ("renderer",))
                )
            if name.id in ScriptSpecification.model_fields or get_close_matches(name.id.lower(), known, 1, 0.8):
                raise InvalidSetting(f"{self.name} line {name.lineno}, {name.id}", unknown_key(name.id, known))

    def _inputs(self, value: Any, line: int | None) -> tuple[str, ...]:
        if value is None:
            return ()
        where = f"{self.name} line {line}, inputs" if line else f"{self.name}: inputs"
        if isinstance(value, str) or not isinstance(value, list | tuple | set) or not all(isinstance(one, str | Path) for one in value):  # fmt: skip
            raise InvalidSetting(
                where, "It is no list of paths.", remedy="give a list of files' paths, such as ['spikes.csv']."
            )
        for path in map(str, value):
            if problem := path_problem(path):
                raise InvalidSetting(where, f"{problem}.", remedy="write it out.")
        return tuple(str(self.path.parent / one) for one in value)

    # ---- the functions -----------------------------------------------------------------------------------------
    def _functions(self, found: Mapping[str, Any]) -> Functions:
        frame, scene = found.get("frame"), found.get("scene")
        if not callable(frame):
            raise InvalidSetting(
                self.name,
                "It has no function `frame`.",
                remedy=f"write `{FORM}:`, which returns a brayns.Camera, a brayns.Snapshot or None.",
            )  # fmt: skip
        if scene is not None and not callable(scene):
            raise InvalidSetting(
                self.name,
                f"scene is {type(scene).__name__}, no function.",
                remedy="write `def scene(service):`, or leave it out.",
            )
        return functions_of(self.name, frame, scene, self.values)


def _changed(name: str) -> RenderingFailed:
    return RenderingFailed(
        f"{name} has changed while the movie was rendered.",
        remedy="Leave it as it is until the movie is whole; the next try renders it anew.",
    )


def functions_of(
    name: str, frame: Callable[..., Any], scene: Callable[..., Any] | None, values: Mapping[str, Any]
) -> Functions:
    """Check the two functions' signatures, and choose the values of their further arguments.

    :param name: the file's name, for errors.
    :param values: the values there are, by name.
    :raises InvalidSetting: a signature is wrong, or there is no value for an argument.
    """
    for_frame = _arguments(name, "frame", frame, FORM, 2, values)
    for_scene = _arguments(name, "scene", scene, "def scene(service)", 1, values) if scene is not None else {}
    return Functions(frame, scene, for_frame, for_scene)


def _arguments(
    name: str, called: str, function: Callable[..., Any], form: str, given: int, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a function's further arguments, by name.

    :param given: how many arguments it is given by place.
    """
    where = f"{name} line {code.co_firstlineno}" if (code := getattr(function, "__code__", None)) else name
    instance: Any = function  # one of a class that can be called, too
    if any(map(_is_begun_only, (function, instance.__call__))):
        raise InvalidSetting(where, f"{called} is a coroutine or yields.", remedy=f"write `{form}:`, which returns.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        raise InvalidSetting(
            where, f"{called} is {function!r}, which tells no arguments.", remedy=f"write `{form}:`."
        ) from None
    by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(by_place) < given and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        told = ", ".join(map(str, parameters))
        raise InvalidSetting(
            where,
            f"{called} takes ({told}), and is called with the others.",
            remedy=f"write it as in `{form}`, with further arguments behind.",
        )
    rest = [*by_place[given:], *(one for one in parameters if one.kind is one.KEYWORD_ONLY)]
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return {key: value for key, value in values.items() if key not in {one.name for one in by_place[:given]}}
    for one in rest:
        if one.name not in values and one.default is one.empty:
            raise InvalidSetting(
                where,
                f"{called} needs {one.name!r}, and nothing gives it.",
                remedy="add it to the run's params or to template_values (`--params` of a command), or write a default, "
                f"`{one.name}=…`.",
            )
    return {one.name: values[one.name] for one in rest if one.name in values}


def _is_begun_only(function: Any) -> bool:
    """Tell whether a call of a function only begins it: of one with `async` or `yield`."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(function) for is_kind in kinds)


def _setting_problem(name: str, found: Mapping[str, Any], *, is_read: bool) -> str:
    """What to say of a global that looks like a setting and sets nothing; empty for another one.

    :param found: the file's globals.
    :param is_read: whether the file's code reads it, so that it is no mistyped one.
    """
    value, small = found.get(name), name.lower()
    if name in SETTINGS and inspect.isclass(value):
        return f"is the class {value.__name__} itself; write `{value.__name__}()`, with what differs in the brackets"
    if not is_read or name == small or small not in _HAVE_A_DEFAULT or found.get(small) is not None or _is_code(value):
        return ""
    usual, set_to = plain_setting(ScriptSpecification.model_fields[small].default), plain_setting(value)
    numbers = set_to if isinstance(set_to, list) else [set_to]
    size, kinds = (2, (int,)) if small == "resolution" else (1, (int, float))
    if (
        len(numbers) != size or not all(type(one) in kinds for one in numbers) or set_to == usual
    ):  # numpy's are no truth
        return ""
    return (
        f"add `{small} = {name}`, or, where that is another one, `{small} = {usual}`: without it the movie's is {usual}"
    )


def _is_code(value: Any) -> bool:
    return inspect.isroutine(value) or inspect.ismodule(value) or inspect.isclass(value)


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return module in sys.modules


def plain_setting(value: Any) -> Any:
    """A setting as JSON values: numbers of numpy, paths, sizes and renderers of the client may be written, too."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain_setting(one) for one in value]
    if hasattr(value, "get_properties_with_name"):
        named = value.get_properties_with_name()
        return {"name": named["name"], **named["params"]}
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    return value
