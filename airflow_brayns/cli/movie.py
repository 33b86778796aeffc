"""`airflow brayns movie …`: is a specification right, and what will it look like."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import tempfile
from pathlib import Path

from airflow_brayns.booking import book
from airflow_brayns.errors import BraynsError
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.picture import contact_sheet
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.specification import LARGEST_SIDE, SMALLEST_SIDE, MovieSpecification
from airflow_brayns.movie.store import FolderStore
from airflow_brayns.movie.supply import Progress
from airflow_brayns.render import Rendering, files_of, render_with

SCHEMA = Path(__file__).parents[1] / "movie" / "movie-1.schema.json"


def _read(path: str) -> MovieSpecification:
    try:
        return MovieSpecification.read_file(Path(path))
    except BraynsError as error:
        raise SystemExit(str(error)) from None


def check(args: argparse.Namespace) -> None:
    """Say what a specification describes, or at which line it is wrong."""
    spec = _read(args.file)
    if spec.frames is not None:
        first, last = spec.frame_range or (0, spec.frames - 1)
        frames = last - first + 1
        length = f"{frames} frames, {frames / spec.fps:.2f} s with {spec.fps:g} frames a second"
    else:
        length = f"as many frames as the simulation has, with {spec.fps:g} frames a second"
    print(f"{args.file} is right: {length}, {spec.resolution[0]}x{spec.resolution[1]}, {spec.renderer.name} renderer, "
          f"camera {spec.camera.path}, {spec.codec} to {spec.output}")  # fmt: skip
    for model in spec.models:
        here = "" if Path(model.path).exists() else " (not on this machine; it must be on the nodes)"
        print(f"  {model.path}: {model.loader_name}{here}")


def schema(args: argparse.Namespace) -> None:
    """Print the JSON schema, for editors."""
    print(SCHEMA.read_text(), end="")


class _Printer:
    """Tells a person at a terminal."""

    def progress(self, progress: Progress) -> None:
        """See `Reporter.progress`."""
        print(f"{progress.done} of {progress.total} frames")

    def note(self, text: str) -> None:
        """Nothing that somebody who wants a picture needs."""

    def trouble(self, text: str) -> None:
        """See `Reporter.trouble`."""
        print(text)


def preview_size(width: int, aspect: float) -> tuple[int, int]:
    """Of a small frame: even, of the movie's shape as nearly as 64 pixels allow, which braynsService needs at least.

    :raises SystemExit: the width cannot be taken.
    """
    if not SMALLEST_SIDE <= width <= LARGEST_SIDE:
        raise SystemExit(
            f"--width: {width} is not between {SMALLEST_SIDE} and {LARGEST_SIDE}; braynsService renders nothing smaller"
        )
    height = round(width / aspect / 2) * 2
    if height > LARGEST_SIDE:
        raise SystemExit(f"--width: {width} makes a frame {height} pixels high; at most {LARGEST_SIDE}")
    return width // 2 * 2, max(SMALLEST_SIDE, height)


def preview(args: argparse.Namespace) -> None:
    """A contact sheet of a few small, quick frames."""
    spec = _read(args.file)
    small_size = preview_size(args.width, spec.aspect)
    renderer = spec.renderer.model_copy(update={"name": "interactive", "samples_per_pixel": 1})
    small = spec.model_copy(update={"resolution": small_size, "renderer": renderer, "format": "png"})
    if args.frames < 1:
        raise SystemExit(f"--frames: {args.frames} is none; at least 1")
    target = Path(args.output or Path(args.file).with_suffix(".preview.jpg").name).absolute()
    if target.suffix.lower() not in (".jpg", ".png"):
        raise SystemExit(f"--output: {target.name} must end in .jpg or .png")
    plugins = tuple(word for word in args.plugins.split(",") if word)
    try:
        asyncio.run(_render(args.cluster_conn_id, small, plugins, args.frames, target))
    except BraynsError as error:
        raise SystemExit(str(error)) from None
    print(target)


async def _render(
    cluster_conn_id: str, spec: MovieSpecification, plugins: tuple[str, ...], frames: int, target: Path
) -> None:
    logging.getLogger("airflow_brayns").setLevel(logging.WARNING)
    hook = BraynsClusterHook(cluster_conn_id)
    settings = hook.settings
    name, token = f"ab-{secrets.token_hex(6)}", f"preview-{secrets.token_hex(4)}"
    about = json.dumps({"dag_id": "airflow brayns movie preview", "run_id": "", "task_id": target.name})
    with tempfile.TemporaryDirectory() as scratch:
        async with hook.connect(settings) as poller:
            try:
                booking = await book(poller.cluster, settings, name, token, nodes=1, plugins=plugins, about=about)
                outcome = await render_with(
                    poller, settings, booking, spec, lambda running: FolderStore(Path(scratch), name, token), _Printer(),
                    Rendering(plugins, sample=frames), driver=token, owner=token, about=about,
                    log=logging.getLogger("airflow_brayns.preview"), files=await files_of(poller.cluster, spec),
                )  # fmt: skip
            finally:
                await asyncio.shield(poller.cluster.release(name))
        await asyncio.to_thread(_sheet, outcome.plan, Path(scratch), target)


def _sheet(plan: Plan, folder: Path, target: Path) -> None:
    contact_sheet([(str(frame), folder / plan.file(frame)) for frame in plan.frames], target)
