"""Files as the cluster sees them: what a movie is made of, and a program that is copied there once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from airflow_brayns.cluster.answers import check_folder, decode
from airflow_brayns.cluster.cluster import COMMAND_SECONDS, Cluster
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import ConnectionLost


async def identity(cluster: Cluster, paths: Sequence[str]) -> str:
    """Size and time of files, so that a changed one is noticed; nothing where the cluster cannot tell."""
    words = " ".join(quote(path) for path in paths)
    told = await cluster.ask("files", f"identify {words}", COMMAND_SECONDS)
    return "\n".join(" ".join(fields) if word == "file" else word for word, fields in told)


async def sizes(cluster: Cluster, paths: Sequence[str]) -> dict[str, str]:
    """Size and time of those of some paths that are files, by path; nothing of what the cluster does not see."""
    words = " ".join(quote(path) for path in paths)
    told = await cluster.ask("files", f"identify_files {words}", COMMAND_SECONDS)
    known = [" ".join(fields) if word == "file" else "" for word, fields in told if word in ("file", "unknown")]
    return {path: one for path, one in zip(paths, known, strict=False) if one}


async def texts(cluster: Cluster, paths: Sequence[str]) -> dict[str, str]:
    """The texts of small files, by path; nothing of one that is large, or that the cluster does not see."""
    words = " ".join(quote(path) for path in paths)
    told = await cluster.ask("files", f"texts_of {words}", COMMAND_SECONDS)
    known = [decode(fields[0]) if word == "text" else "" for word, fields in told if word in ("text", "unknown")]
    return {path: one for path, one in zip(paths, known, strict=False) if one}


async def install(cluster: Cluster, program: Path) -> str:
    """A program's path as the nodes see it; copied into the state folder once.

    :param program: a file of this machine that needs no libraries.
    :raises ConnectionLost: it did not arrive, or not whole.
    :raises StateFolderFull: it could not be written.
    :raises StateFolderNotOurs: others could change it there.
    """
    if cluster.scheduler == "local":
        return str(program)
    digest = await asyncio.to_thread(_digest, program)
    name = f"{program.name}-{digest[:12]}"
    told = await cluster.ask("files", f"find_program {quote(name)} {digest}", COMMAND_SECONDS)
    check_folder(told)
    [path] = dict(told).get("program", [""])
    if not path:
        raise ConnectionLost(f"The cluster did not say where {program.name} belongs.")
    if "there" not in dict(told):
        partial = f"{path}.{secrets.token_hex(4)}"
        await _copy(cluster, program, partial)
        body = f"keep_program {quote(partial)} {quote(path)} {digest}"
        told = await cluster.ask("files", body, COMMAND_SECONDS)
        check_folder(told)
        if "installed" not in dict(told):
            raise ConnectionLost(f"{program.name} did not arrive whole in {path}.")
    return path


async def _copy(cluster: Cluster, program: Path, partial: str) -> None:
    try:
        await cluster.shell.put(program, partial)
    except ConnectionLost:
        check_folder(await cluster.ask("files", f"drop_program {quote(partial)}", COMMAND_SECONDS))
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
