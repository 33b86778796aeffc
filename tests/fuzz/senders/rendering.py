"""Frames and movies on the cluster."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from unittest.mock import patch

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.shell import Framed
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.codecs import Encoding
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.manifest import Header
from airflow_brayns.rendering import frame_checks
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.encode import Sources, encode_script
from airflow_brayns.rendering.frames_script import check_folder
from tests.fuzz.bench import SHELLS, Bench
from tests.fuzz.senders.common import NAME, a_plan
from tests.support.shell import FakeShell


class OnTheBench(SlurmCluster):
    """A cluster whose steps run on the bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        shell = FakeShell()
        shell.run = self._bench_run  # type: ignore[method-assign]
        super().__init__(shell)

    async def _bench_run(self, script: str, timeout: float) -> str:
        framed = Framed(script)
        return framed.read(await asyncio.to_thread(self._bench.run, framed.text), b"")

    async def run_step(self, allocation: Allocation, script: str, *, timeout: float, node: str = "") -> str:
        return await self._bench_run(script, timeout)


def stores(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """A hostile folder for frames, a hostile movie, node and job: read back from the folder and its manifest."""

    async def one(value: str) -> None:
        wanted = f"{bench.scratch()}/{value}"
        folder = bench.accepted("frames_dir", lambda: check_folder(wanted))
        folder = str(bench.scratch()) if folder is None else folder
        cluster, plan = OnTheBench(bench), a_plan()
        movie, node = rng.choice(values), rng.choice(values)
        store = bench.accepted(
            "frames_dir",
            lambda: ClusterFrames(cluster, folder, str(bench.bin / "ffmpeg"), movie, "token-1", lambda: [(Allocation(NAME, 1, "7"), "")]),
            "movie",
        )  # fmt: skip
        if store is None:
            return
        try:
            await store.open()
        except InvalidSetting as error:
            bench.tally.check(error.field in ("frames_dir", "movie"), f"{folder[:200]!r}: {error}")
            return
        place = Path(folder)
        bench.tally.check(place.is_dir(), f"no folder {folder[:300]!r}")
        claim = base64.b64decode((place / ".driver-token-1").read_text())
        bench.tally.check(
            claim == movie.encode("utf-8", "replace"), f"movie {movie[:200]!r} arrived as {claim[:200]!r}"
        )
        header = Header("scene", {}, "snapshot", "3", {"models": [{"path": node}]}, {})
        await store.begin(header)
        Path(store.file_path(plan, 0)).write_bytes(b"a picture")
        await store.keep(plan, 0, b"", Made(0.1, node, value, "s1", "3", "snapshot"))
        lines = [json.loads(line) for line in (place / "manifest.jsonl").read_text().splitlines()]
        bench.tally.check(
            lines[0]["specification"]["models"][0]["path"] == node, f"header {node[:200]!r}: {lines[0]!r:.200}"
        )
        told = (lines[1]["node"], lines[1]["job"], lines[1]["size"])
        bench.tally.check(told == (node, value, 9), f"record {node[:200]!r}: {lines[1]!r:.300}")
        bench.tally.check((place / plan.file(0)).exists(), f"no frame in {folder[:300]!r}")
        await store.close()

    async def main() -> None:
        for value in values:
            try:
                await one(value)
            except Exception as error:
                bench.tally.find(f"store {value[:200]!r}: {type(error).__name__}: {error}")

    with patch.object(frame_checks, "_BATCH_SECONDS", 0.01):
        asyncio.run(main())
    bench.calls("ffmpeg")
    return 4 * len(values)


def encodings(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """Folder, movie and metadata of `encode_script`, to an ffmpeg that writes down its words and the metadata."""
    for value in values:
        output = bench.accepted(
            "output_file", lambda value=value: check_folder(f"{bench.scratch()}/{value}.mp4", "output_file")
        )
        folder = bench.accepted("frames_dir", lambda value=value: check_folder(f"{bench.scratch()}/{value}"))
        output = output or f"{bench.scratch()}/movie.mp4"
        folder = folder or str(bench.scratch())
        metadata = {rng.choice(values): rng.choice(values)}
        ffmpeg = str(bench.bin / "ffmpeg")
        script = bench.accepted(
            "output_file",
            lambda o=output, f=folder, m=metadata, p=ffmpeg: encode_script(
                Sources(f, a_plan(), p), o, Encoding(), m, poster=True, sheet=True
            ),
            "value", "metadata", "frames_dir",
        )  # fmt: skip
        if script is None:
            continue
        said = bench.run(script, SHELLS[1])
        calls = bench.calls("ffmpeg")
        if any(len(os.fsencode(part)) > 200 for part in output.split("/")) or len(output) > 3000:
            continue  # no file system takes it
        bench.tally.check(
            len(calls) == 4 and b"movie made" in said, f"{output[:300]!r}: {len(calls)} calls, {said[-200:]!r}"
        )
        bench.tally.check(Path(output).exists(), f"no {output[:300]!r}")
        for call in calls:
            if b"ffmetadata" not in call.words:
                continue
            pattern = call.words[call.words.index(b"-i") + 1].decode()
            bench.tally.check(
                pattern.replace("%05d", "00000").replace("%%", "%") == f"{folder}/00000.png",
                f"{folder[:300]!r}: {pattern[:300]!r}",
            )
            text = call.given.decode().split("comment=", 1)[1]
            told = _unescaped(text)
            bench.tally.check(json.loads(told) == metadata, f"metadata {metadata!r:.300} arrived as {told[:300]}")
    return 3 * len(values)


def _unescaped(text: str) -> str:
    """ffmpeg's metadata text as ffmpeg reads it."""
    found, escaped = [], False
    for char in text:
        if escaped or char not in "\\\n":
            found.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            break
    return "".join(found)
