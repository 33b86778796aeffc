"""Fetching a file from the cluster, whole or not at all, going on where an earlier try was cut off."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from pathlib import Path
from typing import Any

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.errors import ConnectionLost, InvalidSetting, RenderingFailed
from airflow_brayns.movie.parts import mark_of, stem_of

_FETCH_LOG_SECONDS = 10.0
_KEPT_SECONDS = 7 * 86_400.0  # the part of a fetch that was cut off is kept so long for the next try


async def fetch(
    cluster: Cluster, remote: str, target: Path, sha256: str, size: int, log: Any, *, owner: str = ""
) -> Path:
    """Bring a file from the cluster. This goes on where an earlier try was cut off; the file gets its name only when it
    is whole.

    :param remote: the file's path on the cluster.
    :param target: its path on the worker.
    :param sha256: its digest.
    :param size: its size in bytes.
    :param owner: the task that fetches, so that two tasks which bring the same file to the same place do not write into
        one another's.
    :raises ConnectionLost: the connection broke; the part that has come is kept for the next try.
    :raises RenderingFailed: the file that came is not the one that was asked for.
    """
    whose = f"{mark_of(owner).partition('-')[0]}." if owner else ""
    stem = stem_of(target)
    partial = target.with_name(f".{stem}.{whose}{sha256[:12]}.part")
    _clean_fetched(target, stem, whose, partial)
    hashed = hashlib.sha256()
    have = 0
    if partial.exists():
        with partial.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
                have += len(block)
    told = time.monotonic()
    try:
        with partial.open("ab") as file:
            async for block in cluster.shell.get(remote, have):
                file.write(block)
                hashed.update(block)
                have += len(block)
                if time.monotonic() - told > _FETCH_LOG_SECONDS:
                    told = time.monotonic()
                    log.info(
                        "%s: %.0f of %.0f MB fetched (%d %%)",
                        remote,
                        have / 1e6,
                        size / 1e6,
                        100 * have // max(size, 1),
                    )
    except OSError as error:
        raise InvalidSetting(
            "fetch",
            f"{target} cannot be written: {error.strerror}",
            remedy="choose a file that the worker may write.",
            retry=True,
        ) from error
    if have < size:
        raise ConnectionLost(
            f"{remote}: {have} of {size} bytes came.",
            remedy="Nothing, where the task has retries: the next try goes on from there.",
        )
    if have != size or hashed.hexdigest() != sha256:
        partial.unlink()
        raise RenderingFailed(
            f"{remote}: what came ({have} bytes) is not what is there ({size} bytes).",
            remedy="Nothing, where the task has retries: it is fetched again.",
        )
    partial.replace(target)
    log.info("%s fetched to %s: %.1f MB, its SHA-256 is right", remote, target, size / 1e6)
    return target


def _clean_fetched(target: Path, stem: str, whose: str, partial: Path) -> None:
    """Remove the parts of fetches that earlier tries of the same task left of another movie, and those that nobody came
    back for.
    """
    other = re.compile(rf"\.({re.escape(stem)}|{re.escape(target.name)})\.([0-9a-f]{{8}}\.)?[0-9a-f]{{12}}\.part")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path == partial or not (match := other.fullmatch(path.name)):
                continue
            if (whose and match[2] == whose) or time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink()
