"""What joins a booking and a movie: the frames of a specification, rendered by the services of a booking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_brayns.booking import Booking
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster_store import ClusterStore
from airflow_brayns.crew import Crew
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome, Production
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import FolderStore, Store
from airflow_brayns.movie.supply import FixedSupply, Reporter
from airflow_brayns.settings import ClusterSettings


@dataclass(frozen=True)
class Rendering:
    """How frames are rendered, whoever does it.

    :param plugins: that each service must have loaded.
    :param way: `one-pass` or `snapshot`; None for one pass where the services are ours.
    :param renew_before: seconds before an allocation's end at which the next one is queued; None for no next one.
    :param frame_timeout: seconds that the first frame may take.
    :param load_timeout: seconds that a model may take to load.
    :param sample: only so many frames, evenly spread.
    """

    plugins: tuple[str, ...] = ()
    way: str | None = None
    renew_before: float | None = None
    frame_timeout: float = FIRST_FRAME_SECONDS
    load_timeout: float = 3600.0
    sample: int | None = None


async def files_of(cluster: Cluster, specification: MovieSpecification) -> str:
    """Size and time of the models' files: frames of a scene that has changed are rendered again."""
    return await cluster.identity([model.path for model in specification.models])


async def already_rendered(
    specification: MovieSpecification, store: Store, reporter: Reporter, how: Rendering, files: str
) -> Outcome | None:
    """What there is, if nothing is left to render: a movie that failed at encoding needs no nodes again."""
    return await Production(specification, FixedSupply([]), store, reporter, identity=files, sample=how.sample).look()


async def render_with(
    poller: Poller,
    settings: ClusterSettings,
    booking: Booking,
    specification: MovieSpecification,
    where: Callable[[Callable[[], Sequence[Allocation]]], Store],
    reporter: Reporter,
    how: Rendering,
    *,
    driver: str,
    owner: str,
    about: str,
    log: Any,
    files: str,
    movie: str = "",
) -> Outcome:
    """Render what is left of a movie with all services of a booking, each as it becomes usable.

    :param where: makes the place where frames go; given what tells the allocations that run.
    :param driver: token of this driver, another one for each process.
    :param owner: token of the task that owns the booking.
    :param about: what follow-up allocations are for.
    :param files: see `files_of`.
    :param movie: whose frames these are; another movie does not render with the same services at the same time.
    """
    crew = Crew(
        poller, settings, booking, how.plugins,
        token=driver, owner=owner, about=about, renew_before=how.renew_before, log=log, by=movie,
    )  # fmt: skip
    async with crew:
        return await Production(
            specification,
            crew,
            where(crew.allocations),
            reporter,
            identity=files,
            way=how.way,
            sample=how.sample,
            frame_timeout=how.frame_timeout,
            load_timeout=how.load_timeout,
        ).run()


def place_for_frames(
    cluster: Cluster, folder: str, ffmpeg: str, movie: str, driver: str
) -> Callable[[Callable[[], Sequence[Allocation]]], Store]:
    """What makes the place where frames go, once it is known which allocations run.

    :param ffmpeg: path of an ffmpeg on the cluster's nodes, for frames that stay there; empty for a folder of the worker.
    :param movie: whose frames these are.
    """
    if ffmpeg:
        return lambda running: ClusterStore(cluster, folder, ffmpeg, movie, driver, running)
    return lambda running: FolderStore(Path(folder), movie, driver)


def movie_metadata(outcome: Outcome, manifest: str, versions: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What is written into a movie's file: what it shows, and what it was made with.

    :param manifest: SHA-256 of the manifest.
    :param versions: of the programs.
    """
    return {
        "specification": outcome.header.specification,
        "braynsService": outcome.header.version,
        "way": outcome.header.way,
        **dict(versions),
        "manifest_sha256": manifest,
    }
