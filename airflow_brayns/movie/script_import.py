"""Imports of a movie's Python: modules beside its file are found there first, by its own threads alone, and each load of
the file has them afresh.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

_KEPT = frozenset({*sys.stdlib_module_names, "brayns", "airflow", "airflow_brayns"})
_here = threading.local()
_loading = threading.RLock()  # what is beside the file is loaded by one service at a time, each has its own


class _Source(SourceFileLoader):
    """A loader that compiles the source each time: a cache is known by size and second only, and none is written beside
    the file.
    """

    def get_code(self, fullname: str) -> CodeType:
        """See `importlib.abc.InspectLoader`."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`; the module imports what its importer would."""
        own: OwnModules | None = getattr(_here, "own", None)
        if own is not None:
            vars(module)["__builtins__"] = own.builtins
        super().exec_module(module)


class _Beside:
    """A finder of modules in the folder of the file that the present thread runs."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        folder = getattr(_here, "folder", None)
        if folder is None or name in _KEPT:
            return None
        if path is not None and not any(Path(one).is_relative_to(folder) for one in path):
            return None
        found = PathFinder.find_spec(name, [folder] if path is None else path, target)
        if found is None or (found.loader is None and path is None and _is_elsewhere(name, folder)):
            return None
        if isinstance(found.loader, SourceFileLoader):
            found.loader, found.cached = _Source(found.loader.name, found.loader.path), None
        return found


def _is_elsewhere(name: str, folder: str) -> bool:
    """Tell whether another finder knows a module outside of a folder, which is more than a mere folder of its name. A finder of
    somebody else's that fails, or is one of before Python 3.4, knows none.
    """
    for finder in sys.meta_path:
        find = None if finder is _Beside else getattr(finder, "find_spec", None)
        with suppress(Exception):
            spec = None if find is None else find(name, None)
            if spec is not None and spec.loader is not None:
                return not (spec.has_location and Path(str(spec.origin)).is_relative_to(folder))
    return False


def _is_a_movies(module: ModuleType) -> bool:
    """Tell whether a module was loaded for a movie's Python."""
    return isinstance(getattr(module, "__loader__", None), _Source)


@contextmanager
def from_folder(folder: str) -> Iterator[None]:
    """For the present thread and as long as the block runs, find modules in a folder first."""
    if _Beside not in sys.meta_path:
        sys.meta_path.insert(0, _Beside)
    before = getattr(_here, "folder", None)
    _here.folder = folder
    try:
        yield
    finally:
        _here.folder = before


class _Importlib(ModuleType):
    """`importlib` as the code of one load has it: what it imports by a text is that load's own, too.

    :param placed_for: for as long as the block runs, the own modules are those that Python knows by their names, if the
        module of that name is one.
    """

    def __init__(self, placed_for: Callable[[str], AbstractContextManager[None]]) -> None:
        super().__init__(importlib.__name__, importlib.__doc__)
        self._placed_for = placed_for

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """See `importlib.import_module`."""
        with self._placed_for((package or "") if name.startswith(".") else name):
            return importlib.import_module(name, package)

    def reload(self, module: ModuleType) -> ModuleType:
        """See `importlib.reload`."""
        with self._placed_for(module.__name__):
            return importlib.reload(module)


class OwnModules:
    """The modules beside a file, as one load of it has them: each service's code imports its own, at the top and inside
    functions, by a statement or by a text, whatever other services and movies have loaded since.

    :param folder: the file's folder.
    :param names: the top-level names of the modules.
    """

    _last: ClassVar[OwnModules | None] = None  # whose modules Python knows by their names at present

    def __init__(self, folder: str, names: Set[str]) -> None:
        self._folder, self._names = folder, names - _KEPT
        self._loaded: dict[str, ModuleType] = {}
        self._importlib = _Importlib(self._placed_for)
        # What the code of the file and of these modules takes for Python's own functions: `import` asks for `__import__`.
        self.builtins = {**vars(builtins), "__import__": self._import}

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        with self.placed() if level else self._placed_for(name):
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
        return self._importlib if found is importlib else found

    def _placed_for(self, name: str) -> AbstractContextManager[None]:
        return self.placed() if name.partition(".")[0] in self._names else nullcontext()

    @contextmanager
    def placed(self) -> Iterator[None]:
        """For as long as the block runs, these modules are those that Python knows by their names; one thread at a time
        does that. Behind it, a name that is somebody else's too is theirs again; others stay, for what looks itself up there,
        until another load's take their place.
        """
        if getattr(_here, "own", None) is self:  # a module imports another one while it is loaded
            yield
            return
        with _loading, from_folder(self._folder):
            before, _here.own = getattr(_here, "own", None), self
            self._take_over()
            known = {one: sys.modules.pop(one) for one in self._known()}
            others = {one: module for one, module in known.items() if self._loaded.get(one) is not module}
            sys.modules.update(self._loaded)
            try:
                yield
            finally:
                self._loaded = {one: sys.modules[one] for one in self._known()}
                _here.own = before
                self._give_back(others)

    def _give_back(self, others: Mapping[str, ModuleType]) -> None:
        """See that everybody else has the modules of their own that are called like these: those that they had, or that
        Python finds where they look. Others stay, since what a movie has pickled is looked for by name.
        """
        theirs = {one.partition(".")[0] for one in others}
        for name in theirs | {one for one in self._names - theirs if _is_elsewhere(one, self._folder)}:
            for one in self._known():
                if one.partition(".")[0] == name:
                    sys.modules.pop(one, None)
        sys.modules.update(others)

    def _take_over(self) -> None:
        """Take away what the load before has left under its names, and what code that is installed has imported from there by a
        text that nobody could read before.
        """
        last, OwnModules._last = OwnModules._last, self
        if last is None or last is self:
            return
        for one, module in sys.modules.copy().items():  # other threads import meanwhile
            of_file = _is_a_movies(module) and Path(str(module.__file__)).is_relative_to(last._folder)
            if of_file or last._loaded.get(one) is module:
                sys.modules.pop(one, None)

    def _known(self) -> list[str]:
        return [one for one in list(sys.modules) if one.partition(".")[0] in self._names]
