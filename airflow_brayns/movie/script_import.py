"""Imports of a movie's Python: modules beside its file are found there first, by its own threads alone, and each load of
the file has them afresh.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

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
        if found is None or (found.loader is None and path is None and _is_elsewhere(name)):
            return None
        if isinstance(found.loader, SourceFileLoader):
            found.loader, found.cached = _Source(found.loader.name, found.loader.path), None
        return found


def _is_elsewhere(name: str) -> bool:
    """Tell whether another finder knows a module, which is more than a mere folder of its name."""
    specs = (one.find_spec(name, None) for one in sys.meta_path if one is not _Beside)
    return any(spec is not None and spec.loader is not None for spec in specs)


@contextmanager
def from_folder(folder: str, *, afresh: Set[str] = frozenset()) -> Iterator[None]:
    """For the present thread and as long as the block runs, find modules in a folder first.

    :param afresh: top-level names of modules that the block loads anew; one thread at a time does that.
    """
    if _Beside not in sys.meta_path:
        sys.meta_path.insert(0, _Beside)
    before = getattr(_here, "folder", None)
    _here.folder = folder
    try:
        if not afresh:
            yield
            return
        with _loading:
            names = afresh - _KEPT
            for one in [one for one in sys.modules if one.partition(".")[0] in names]:
                del sys.modules[one]
            yield
    finally:
        _here.folder = before
