"""What is drawn over the frames of a movie that a node encodes: its pictures are made on the worker, and laid beside the
frames in one archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import BraynsError, StorageFailed
from airflow_brayns.movie.overlays import Drawing


@dataclass(frozen=True)
class Drawn:
    """What is drawn over frames on the cluster.

    :param drawing: what it is.
    :param path: the archive of its pictures, on the cluster.
    :param sha256: the archive's digest.
    """

    drawing: Drawing
    path: str
    sha256: str


@asynccontextmanager
async def drawn_beside(
    cluster: Cluster, folder: str, drawing: Drawing | None, mark: str
) -> AsyncIterator[Drawn | None]:
    """Lay what is drawn over frames beside them for as long as the body goes on; nothing for None.

    A name belongs to its content and to whoever encodes: a job of an earlier try, which the next one finds, finds its
    archive too.

    :param folder: the folder of the frames on the cluster.
    :param mark: the mark of whoever encodes, see `parts.mark_of`.
    :raises ConnectionLost: it did not arrive.
    :raises StorageFailed: it could not be written, or not whole.
    """
    if drawing is None:
        yield None
        return
    whose = f"{folder}/.overlays.{mark.partition('-')[0]}"
    try:
        yield await _laid(cluster, drawing, whose)
    finally:
        with contextlib.suppress(BraynsError):  # the next try takes it away
            await asyncio.shield(cluster.shell.run(f"rm -f {quote(whose)}-*\n", 60))


async def _laid(cluster: Cluster, drawing: Drawing, whose: str) -> Drawn:
    with tempfile.TemporaryDirectory() as scratch:
        archive = await asyncio.to_thread(_archive, drawing, Path(scratch))
        sha256 = hashlib.sha256(await asyncio.to_thread(archive.read_bytes)).hexdigest()
        path = f"{whose}-{sha256[:12]}.tar.gz"
        await cluster.shell.put(archive, f"{path}.part")
    # by rename, and only what came whole: an encryption of the connection proves what was sent, no disk that is full
    told = await cluster.shell.run(
        f'p={quote(path)}\ncase $(sha256sum <"$p.part") in {sha256}*) mv -f "$p.part" "$p" && echo laid ;; esac\n', 60
    )
    if "laid" not in told.split():
        raise StorageFailed(
            f"What is drawn over the frames did not come whole to {path}.",
            remedy="see whether there is room; a retry lays it there anew.",
            field="frames_dir",
        )
    return Drawn(drawing, path, sha256)


def _archive(drawing: Drawing, folder: Path) -> Path:
    """Write the drawing's pictures into an archive, the same to the bit as long as they are."""
    pictures, archive = folder / "pictures", folder / "drawn.tar.gz"
    pictures.mkdir()
    drawing.write(pictures)
    # repeated pictures lie close together, so that even a quick packing makes little of them
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", 4, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(pictures.iterdir()):
            about = tarfile.TarInfo(path.name)
            about.size = path.stat().st_size
            with path.open("rb") as data:
                tar.addfile(about, data)
    return archive
