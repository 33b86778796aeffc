"""The versions of this package that were released, and their code as it was, to be run beside today's.

`python -m tests.released 0.2.0` runs a version's own code on this machine and keeps what it serialised and told, as
`tests/data/released/0.2.0.json`. A new release is added to `COMMITS` and recorded once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
DATA = REPO / "tests" / "data" / "released"
COMMITS = {
    "0.1.0": "ec8a6c594a94c7650eff409bb2f6713dfcd2ed5d",
    "0.2.0": "0e11fe3ce5d384cc8615dd5ef7c1a3794421d19e",
}


def recorded(version: str) -> dict[str, Any]:
    """What a version serialised and told; see `tests.released.__main__`."""
    return dict(json.loads((DATA / f"{version}.json").read_text()))


def deferrals() -> dict[str, dict[str, Any]]:
    """Every task that a released version deferred, by a name for tests."""
    return {f"{version} {one['case']}": one for version in COMMITS for one in recorded(version)["deferred"]}


def code(version: str) -> Path:
    """A folder with a version's package and DAGs, from git; a shallow clone fetches that one commit.

    :raises RuntimeError: git does not have it.
    """
    folder = REPO / "build" / "released" / version
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        with tarfile.open(fileobj=BytesIO(_archive(COMMITS[version]))) as archive:
            archive.extractall(made, filter="data")
        try:
            made.rename(folder)
        except OSError:  # another one was quicker
            shutil.rmtree(made)
    return folder


def _archive(commit: str) -> bytes:
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        _git("fetch", "--quiet", "--depth=1", "origin", commit)
    done = _git("archive", commit, "airflow_brayns", "dags")
    if done.returncode:
        raise RuntimeError(
            f"git has no commit {commit}, which tests of upgrades run: clone with the whole history "
            f"(`git fetch --unshallow`).\n{done.stderr.decode(errors='replace')}"
        )
    return done.stdout


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", REPO, *words], capture_output=True, check=False)


def environment(version: str) -> dict[str, str]:
    """What makes Python import that version, in whichever environment today's is installed."""
    return {**os.environ, "PYTHONPATH": f"{code(version)}:{REPO}"}
