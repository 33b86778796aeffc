"""What is to be made of frames, and what is decided once their manifest has been read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.codecs import Encoding, EncodingChoice
from airflow_brayns.movie.specification import MovieSpecification


@dataclass(frozen=True)
class EncodeRequest:
    """A request to make a movie of frames.

    :param folder: where the frames are.
    :param target: the movie's path, on the worker or on the cluster, where the frames are; None for the specification's
        `output`.
    :param encoding: how it is made; what is not chosen is as the manifest's specification says.
    :param poster: whether to keep the frame in the middle beside it.
    :param sheet: whether to put frames on one sheet beside it.
    :param owner: the task that it is made for, so that two tasks which write to one place do not write into one
        another's files.
    :param frames: how many frames there must be in a folder of the worker; None for as many as there are.
    :param near: the path on the worker to bring a movie to that is made on the cluster; None to leave it there.
    """

    folder: str
    target: Path | None
    encoding: Encoding | EncodingChoice
    poster: bool
    sheet: bool
    owner: Owner
    frames: int | None = None
    near: Path | None = None

    def decided(self, told: MovieSpecification | None) -> Decided:
        """What is made of frames, as was asked for, or else as their manifest says.

        :param told: the manifest's; None where there is none.
        :raises InvalidSetting: it cannot be made, naming the field.
        """
        encoding = self.encoding.over(told.encoding if told else Encoding())
        if told:
            encoding.check_size(told.resolution, joined=told.tiles is not None)
        if self.target is None and told is None:
            raise InvalidSetting(
                "output_file", f"{self.folder} has no manifest that tells it.", remedy="say where the movie goes."
            )
        target = self.target or Path(str(told and told.output)).expanduser()
        encoding.check_output(target)
        return Decided(target, encoding)


@dataclass(frozen=True)
class Decided:
    """Where a movie goes, and how it is encoded."""

    target: Path
    encoding: Encoding
