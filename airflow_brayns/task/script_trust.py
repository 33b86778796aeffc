"""Who may bring Python: it runs as the worker. What a DAG's author writes down is theirs; what comes from a run, such as a
parameter, must lie in the DAG bundle's own folder, or in one that the site names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import conf

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.fields import is_path
from airflow_brayns.movie.script_file import SUFFIX


def script_path(value: Any) -> Path | None:
    """The file of Python that a specification's field names, as a path or as plain values of a file that was read
    before; None where it names none.

    :raises InvalidSetting: what should be a path is none.
    """
    if isinstance(value, Mapping):
        source = value.get("script")
        value = source.get("file") if isinstance(source, Mapping) else None
        return user_path("specification", value) if isinstance(value, str) else None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or "\n" in value or not value.strip().lower().endswith(SUFFIX):
        return None
    return user_path("specification", value.strip()).absolute()


def user_path(field: str, text: str) -> Path:
    """A path that somebody wrote, which may begin with `~`.

    :raises InvalidSetting: it is none; the error names the field.
    """
    with contextlib.suppress(RuntimeError):  # `~name` of no user
        if is_path(text):
            return Path(text).expanduser()
    raise InvalidSetting(field, f"{text[:200]!r} is not a path", remedy="give a path.")


def is_authors(written: Any, rendered: Any) -> bool:
    """Tell whether a field is what the DAG's author wrote down: plain values that no template has changed, whichever marks
    the DAG's templates have.

    :param written: the field before it was templated.
    :param rendered: the field as it is read.
    """
    return written is not None and _is_plain(written) and bool(rendered == written)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | os.PathLike | bool | int | float | None)


def check_may_bring(path: Path, context: Mapping[str, Any] | None) -> Path:
    """Check that a file of Python may be run that a run names, and return its path without links: a link could lead
    elsewhere a moment later.

    :param context: the task's context, which tells the DAG's folder; None outside of tasks.
    :raises InvalidSetting: it lies elsewhere, links followed.
    """
    real = path.resolve()
    allowed = list(_folders(context))
    if any(real.is_relative_to(folder) for folder in allowed):
        return real
    told = ", ".join(map(str, allowed)) or "none"
    where = f"{path} (that is {real})" if real != path else str(path)
    raise InvalidSetting(
        "specification",
        f"{where} is Python, which would run as the worker, and a run may bring it from these folders only: {told}.",
        remedy="lay it in one of the folders below, or name its own in [brayns] script_folders.",
    )


def _folders(context: Mapping[str, Any] | None) -> Iterator[Path]:
    """The folders that Python may come from: the bundle's, and the site's; links followed."""
    around = context or {}
    bundle = getattr(getattr(around.get("ti"), "bundle_instance", None), "path", None)
    if bundle is not None:
        yield Path(bundle).resolve()
    elif file := getattr(around.get("dag"), "fileloc", None):
        yield Path(file).resolve().parent
    for folder in (conf.get("brayns", "script_folders", fallback="") or "").replace(",", "\n").splitlines():
        if folder.strip():
            yield Path(folder.strip()).expanduser().resolve()


def check_inputs(inputs: tuple[str, ...]) -> None:
    """Check that data files of a movie on this machine are there.

    :raises InvalidSetting: one is not; the error names it.
    """
    for path in inputs:
        if not Path(path).exists():
            raise InvalidSetting(
                "inputs", f"{path} does not exist on this machine.", remedy="correct it, or leave it out."
            )


def check_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Check that a movie's Python and its data files are as they were when another task read their settings.

    :param before: the digests of then; empty where nothing was read.
    :raises InvalidSetting: one has changed; the error names it.
    """
    if changed := sorted(name for name in {*before, *now} if before and before.get(name) != now.get(name)):
        raise InvalidSetting(
            "specification",
            f"{Path(changed[0]).name} has changed since it was checked, and the settings are those of then.",
            remedy="clear the task that checked it (check), with those after it.",
        )
