"""What lies on a cluster's disk, and what a node says of a movie, damaged."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random
from unittest.mock import patch

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.plan import SceneFacts
from airflow_brayns.rendering import encode, frame_checks
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from tests.fuzz import cases
from tests.fuzz.readers.checks import SLOW, must, ours
from tests.fuzz.senders.common import NAME, a_plan
from tests.support.shell import FakeShell

# ---- what lies on disk --------------------------------------------------------------------------------------------------
_HEADER = {"manifest": 1, "scene": "s", "facts": {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0.0}, "way": "snapshot",
           "version": "3.10.1", "specification": {"models": []}, "measured": {"snapshot": 1.0}}  # fmt: skip
_RECORD = {"frame": 0, "key": "k", "file": "00000.png", "sha256": "0" * 64, "size": 10, "mtime": 1, "seconds": 0.1, "node": "n", "job": "7",
           "service": "s", "version": "3", "way": "snapshot", "scene": "s"}  # fmt: skip


def manifests(rng: Random) -> None:
    """A manifest that was cut, edited or made by somebody else."""
    lines = []
    for _ in range(rng.randint(1, 5)):
        good = rng.choice((_HEADER, _RECORD, {**_RECORD, "frame": 1}))
        lines.append(cases.as_json(rng, cases.damaged(rng, good, 0.1)))
    found = ours(lambda: Manifest.read(lines))
    if found is None:  # of a newer format
        return
    must(found.damaged <= len(lines), "more damage than lines")
    for frame, known in found.frames.items():
        must(isinstance(frame, int) and isinstance(known.size, int) and isinstance(known.file, str), f"{known!r}")
        must(abs(frame) < 10**12 and abs(known.size) < 10**18 and abs(known.mtime) < 10**24, f"{known!r:.200}")
    if found.header is not None:
        ours(lambda: SceneFacts.from_plain(found.header.facts) if found.header else None)
        must(all(isinstance(one, float) for one in found.header.measured.values()), f"{found.header.measured!r:.200}")
        json.loads(found.header.line())


def stored(rng: Random) -> None:
    """What the cluster says of frames on its disk."""
    plan = a_plan()
    lines = f"opened\nline {json.dumps(_HEADER)}\nline {json.dumps(_RECORD)}\nfile 00000.png 10 1.5\nhash 00000.png {'0' * 64}\nbegun\nkept 0\nrefused 0 eA==\n"
    pieces = [b"file 00001.png \xc2\xb2 1\n", b"file 00001.png 1 nan\n", b"file 00001.png 1 \n", b"kept \xc2\xb2\n", b"busy \n", b"superseded\n", b"file 00000.png 1 1e999\n",
              b"failed eA==\n", b"unwritable \n", b"\x0bsuperseded\x0b", b"kept " + b"9" * 5000]  # fmt: skip
    answer = cases.mutated(rng, lines.encode(), pieces).decode("utf-8", "replace")
    cluster = SlurmCluster(FakeShell(answer))
    store = ClusterFrames(cluster, "/frames", "/ffmpeg", "movie", "token", lambda: [(Allocation(NAME, 1, "7"), "")])

    async def main() -> None:
        if rng.random() < 0.6:
            manifest = await store.open()
            await store.survey(plan, manifest)
        else:
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            made = Made(1, "n", "7", "s", "3", "snapshot")
            await store._checks._check([frame_checks._Waiting(plan, 0, made, future)])
            must(future.done(), "a frame that nobody told of is waited for")
            future.exception()

    # What no node tells of is given up at once.
    with patch.multiple(frame_checks, _PATIENCE_SECONDS=-1.0, _PAUSE_SECONDS=0.0):
        ours(lambda: asyncio.run(main()))


def encoded(rng: Random) -> None:
    """What a node says of the movie it made."""
    good = (
        "frame=3\n  Duration: 00:00:00.12, start: 0.000000, bitrate: 1 kb/s\n  Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 96x64 [SAR 1:1], 25 fps\n"
        f"frame=3\nsha256 {'0' * 64} 9\nmovie made\n"
    )  # fmt: skip
    pieces = [b"Duration: 1:1:1.1.1", b"frame=" + b"9" * 5000, b"frame=\xc2\xb2\n", b"Duration: 99:99:.", "٣".encode()]
    text = cases.mutated(rng, good.encode(), pieces).decode("utf-8", "replace")
    if rng.random() < 0.05:
        text = (rng.choice(("Stream #0:0", "Duration: 1:", ": Video: a", "frame=1")) * 10_000)[:65536]
    sources = encode.Sources("/f", a_plan(), "/ffmpeg")
    began = time.process_time()
    ours(lambda: encode._read(text, "/x/movie.mp4", sources, 25.0))
    must(time.process_time() - began < SLOW, f"{time.process_time() - began:.1f} s for {text[:80]!r}")
