"""Frames of a former version: 0.2.0 told a scene by fewer of its files than are looked at today, and its frames are kept
where nothing speaks against it.
"""

from __future__ import annotations

from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.plan import scene_hash
from airflow_brayns.movie.specification import MovieSpecification


def scene_beside(manifest: Manifest, specification: MovieSpecification, identity: str) -> str:
    """The digest of a scene, to go on with beside the frames that are there: that of `scene_hash` or, where they are of
    the same scene as a former version told it and newer than all of its files, theirs.

    :param manifest: the manifest of those frames.
    :param identity: size and time of the models' files, of each a line; a line begins with a path where the file is one
        that a model's own file names, which 0.2.0 did not look at. With services of others it looked at none.
    """
    scene, header = scene_hash(specification, identity), manifest.header
    if header is None or header.scene == scene:
        return scene
    own = "\n".join(line for line in identity.splitlines() if not line.startswith("/"))
    is_former = header.scene in {scene_hash(specification, one) for one in (own, "")}
    oldest = min((known.mtime for known in manifest.frames.values()), default=0)
    return header.scene if is_former and (_newest(identity) + 1) * 1_000_000_000 <= oldest else scene


def _newest(identity: str) -> int:
    """When the newest of some files was changed, in whole seconds since 1970; 0 where nobody could tell of any."""
    times = (line.rpartition(" ")[2] for line in identity.splitlines())
    return max((int(time) for time in times if time.isdecimal()), default=0)
