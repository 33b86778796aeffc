"""The commands `airflow brayns movie …`, which tell whether a specification is right, and what it will look like."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import tempfile
from pathlib import Path

from airflow_brayns.brayns.official import official_client
from airflow_brayns.cli.connections import opened
from airflow_brayns.cli.console import Answer, command, say
from airflow_brayns.cli.order import prove, told
from airflow_brayns.cluster.owner import About, Owner, RunOf
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.images import spread
from airflow_brayns.movie.interfaces import Progress
from airflow_brayns.movie.overlay_layers import check_overlays
from airflow_brayns.movie.script import ScriptSpecification, script_of
from airflow_brayns.movie.script_file import SUFFIX, ScriptFile
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.used import Used
from airflow_brayns.movie.versions import schema_file
from airflow_brayns.rendering.preview import preview_movie, preview_size, small_movie
from airflow_brayns.rendering.render import Rendering, RenderRequest
from airflow_brayns.services.literal import literal

SCHEMA = schema_file()


def read_movie(args: argparse.Namespace) -> MovieSpecification:
    """The movie that a command is asked about: a specification's file, or one of Python with the arguments that are given.

    :raises InvalidSetting: it is none; the error names the key and its line.
    """
    found = _read(args)
    check_overlays(found)
    return found


def _read(args: argparse.Namespace) -> MovieSpecification:
    path = Path(args.file)
    if path.suffix.lower() != SUFFIX:
        return MovieSpecification.read_file(path)
    official_client()
    params = literal(args.params)
    if not isinstance(params, dict):
        raise InvalidSetting("--params", f"must be a JSON object, not {args.params[:60]!r}")
    return ScriptFile(path.absolute(), params).specification()


def plugins_of(text: str) -> tuple[str, ...]:
    """The names of plugins that a text lists with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


@command
def check(args: argparse.Namespace) -> Answer:
    """What a specification describes, or at which line it is wrong; of Python, whether frames depend on their order."""
    spec = read_movie(args)
    if spec.frames is not None:
        first, last = spec.frame_range or (0, spec.frames - 1)
        frames = spec.encoding.length(len(range(first, last + 1, spec.step)))
        length = f"{frames} frames, {frames / spec.fps:.2f} s with {spec.fps:g} frames a second"
    else:
        length = f"as many frames as the simulation has, with {spec.fps:g} frames a second"
    camera = f"{len(spec.shots)} shots" if spec.shots else f"camera {spec.camera.path}"
    size = f"{spec.resolution[0]}x{spec.resolution[1]}"
    camera = camera if script_of(spec) is None else "Python"
    lines = [
        f"{args.file} is right: {length}, {size}, {spec.renderer.name} renderer, {camera}, {spec.codec} to {spec.output}"
    ]
    for model in spec.models:
        here = "" if Path(model.path).exists() else " (not on this machine; it must be on the nodes)"
        lines.append(f"  {model.path}: {model.loader_name}{here}")
    if spec.tiling is not None:
        wide, high = spec.tiling.size
        lines.append(f"  {spec.tiling.columns} x {spec.tiling.rows} tiles of {wide}x{high} pixels")
    row = {
        "file": args.file, "frames": spec.frames, "fps": spec.fps, "resolution": size, "renderer": spec.renderer.name,
        "camera": camera.removeprefix("camera "), "codec": spec.codec, "output": spec.output,
        "models": [model.path for model in spec.models],
    }  # fmt: skip
    if isinstance(spec, ScriptSpecification) and not args.without_rendering:
        lines.append(_prove(args, spec))
    return Answer([row], text="\n".join(lines))


def _prove(args: argparse.Namespace, spec: ScriptSpecification) -> str:
    """Prove that frames do not depend on their order, and tell it."""
    frames = list(spread(range(spec.frames or 0), args.frames))
    small = spec.model_copy(update={"resolution": preview_size(320, spec.aspect), "format": "png", "tiles": None})
    plugins, hook = plugins_of(args.plugins), opened(args.cluster_conn_id)
    hook.settings.service(plugins)
    order = asyncio.run(prove(hook, small, plugins, frames, Printer()))
    return told(order, spec.script.name)


@command
def schema(args: argparse.Namespace) -> Answer:
    """The JSON schema, for editors."""
    return Answer(text=SCHEMA.read_text().rstrip("\n"))


class Printer:
    """A reporter that tells a person at a terminal."""

    def progress(self, progress: Progress) -> None:
        """See `Reporter.progress`."""
        say(f"{progress.done} of {progress.total} {progress.noun}")

    def note(self, text: str) -> None:
        """See `Reporter.note`; nothing is printed, since whoever wants a picture needs no notes."""

    def said(self, line: str) -> None:
        """See `Reporter.said`."""
        say(line)

    def trouble(self, text: str) -> None:
        """See `Reporter.trouble`."""
        say(text)

    def used(self, used: Used, total: Used) -> None:
        """See `Reporter.used`; nothing is printed of a few small frames."""


def preview_target(output: str) -> Path:
    """Check the path of a preview's contact sheet, and return it.

    :raises InvalidSetting: it cannot go there.
    """
    target = Path(output).expanduser().absolute()
    if target.suffix.lower() not in (".jpg", ".png"):
        raise InvalidSetting("--output", f"{target.name} does not.", remedy="end it in .jpg or .png.")
    if not target.parent.is_dir():
        raise InvalidSetting(
            "--output", f"there is no folder {target.parent}.", remedy="make the folder, or name another."
        )
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            writable = not target.is_dir() and (not target.exists() or os.access(target, os.W_OK))
    except OSError:
        writable = False
    if not writable:
        raise InvalidSetting("--output", f"{target} cannot be written.", remedy="name another file.")
    return target


@command
def preview(args: argparse.Namespace) -> Answer:
    """Render a few small, quick frames, and put them on a contact sheet."""
    spec = read_movie(args)
    small = small_movie(spec, args.width, "--width")
    if args.frames < 1:
        raise InvalidSetting("--frames", f"{args.frames} is none.", remedy="ask for at least 1.")
    target = preview_target(args.output or Path(args.file).with_suffix(".preview.jpg").name)
    plugins = plugins_of(args.plugins)
    hook = opened(args.cluster_conn_id)
    hook.settings.service(plugins)
    name = f"ab-{secrets.token_hex(6)}"
    about = About(run=RunOf("airflow brayns movie preview", "", target.name))
    owner = Owner(name, f"preview-{secrets.token_hex(4)}", str(about), movie=name)
    request = RenderRequest(small, "", Rendering(plugins, sample=args.frames), owner)
    asyncio.run(_render(hook, request, target, spec.resolution))
    return Answer(text=str(target))


async def _render(hook: BraynsClusterHook, request: RenderRequest, target: Path, full_size: tuple[int, int]) -> None:
    async with hook.session(logging.getLogger("airflow_brayns.preview")) as session:
        try:
            await preview_movie(session, request, target, full_size, Printer())
        finally:  # it is given back by now; a person who stops the command finds nothing of it when that has ended
            await asyncio.shield(session.cluster.release(request.owner.name))
