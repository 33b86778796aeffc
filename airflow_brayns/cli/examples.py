"""`airflow brayns examples`: the DAGs to start from, copied into a DAG folder."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from airflow_brayns.cli.console import Answer, command, say
from airflow_brayns.errors import InvalidSetting

_PACKAGE = Path(__file__).parents[1]
_IN_WHEEL, _IN_CLONE = _PACKAGE / "example_dags", _PACKAGE.parent / "dags"


@command
def examples(args: argparse.Namespace) -> Answer:
    """Copy the example DAGs; a file that is there already stays, unless it is to be replaced."""
    source = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CLONE
    if args.folder is None:
        return Answer(text="\n".join(str(path) for path in _files(source)))
    folder = Path(args.folder).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InvalidSetting("folder", f"{folder} is a file.", remedy="name a folder, such as your DAG folder.")
    wanted = {folder / path.relative_to(source): path for path in _files(source)}
    changed = [target for target, path in wanted.items() if target.exists() and _differs(target, path)]
    if changed and not args.overwrite:
        listed = "\n".join(f"  {path}" for path in changed)
        raise InvalidSetting(
            "folder",
            f"these are there, and not as they come:\n{listed}",
            remedy="name another folder, or replace them by --overwrite.",
        )
    for target, path in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    dags = ", ".join(path.stem for path in wanted if path.parent == folder)
    say(f"{dags}: try `airflow dags test brayns_movie`, once {folder} is (in) your DAG folder.")
    return Answer(text="\n".join(map(str, wanted)))


def _files(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _differs(target: Path, path: Path) -> bool:
    return not target.is_file() or target.read_bytes() != path.read_bytes()
