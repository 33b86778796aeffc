"""`airflow brayns movie estimate`: what a movie will take, before it costs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import secrets
from pathlib import Path

from airflow_brayns.cli.connections import opened
from airflow_brayns.cli.console import Answer, command
from airflow_brayns.cli.movie import Printer, plugins_of, read_movie
from airflow_brayns.cluster.owner import About, Owner, RunOf
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.estimate import Estimate
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.estimate import estimate_movie
from airflow_brayns.rendering.render import Rendering, RenderRequest


@command
def estimate(args: argparse.Namespace) -> Answer:
    """Render three frames of full quality with one service, and tell what the whole movie takes on how many nodes."""
    numbers = numbers_of(args.nodes)
    spec, plugins = read_movie(args), plugins_of(args.plugins)
    hook = opened(args.cluster_conn_id)
    hook.settings.service(plugins)
    found = asyncio.run(_estimate(hook, spec, plugins, Path(args.file).name))
    rows = [{"file": args.file} | row for row in found.rows(numbers)]
    return Answer(rows, text=f"{args.file}: {found.text(numbers)}")


def numbers_of(text: str) -> list[int]:
    """The numbers of nodes that a text lists, `1,2,4`.

    :raises InvalidSetting: one of them is none.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,5}", word) for word in words):
        raise InvalidSetting(
            "--nodes", f"{text[:60]!r} has something else.", remedy="give one number, or several with commas: 1,2,4."
        )
    return sorted(set(map(int, words)))


async def _estimate(hook: BraynsClusterHook, spec: MovieSpecification, plugins: tuple[str, ...], name: str) -> Estimate:
    about = About(run=RunOf("airflow brayns movie estimate", "", name))
    allocation = f"ab-{secrets.token_hex(6)}"
    owner = Owner(allocation, f"estimate-{secrets.token_hex(4)}", str(about), movie=allocation)
    async with hook.session(logging.getLogger("airflow_brayns.estimate")) as session:
        try:
            return await estimate_movie(session, RenderRequest(spec, "", Rendering(plugins), owner), Printer())
        finally:  # it is given back by now; a person who stops the command finds nothing of it when that has ended
            await asyncio.shield(session.cluster.release(owner.name))
