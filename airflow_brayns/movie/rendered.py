"""Rendered frames in a folder of the worker, of which a movie is made: they must be whole and all of one movie, as
their manifest tells.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.encode import FrameFiles
from airflow_brayns.movie.frame_folder import survey_folder
from airflow_brayns.movie.frame_store import Survey
from airflow_brayns.movie.manifest import NAME as MANIFEST
from airflow_brayns.movie.manifest import Header, Manifest, digest
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import specification_of, without_values
from airflow_brayns.movie.used import Used


def plan_of(header: Header) -> Plan:
    """The plan of the movie that a manifest's header tells of.

    :raises RenderingFailed: the header tells of none.
    """
    try:
        specification = specification_of(header.specification)
        return Plan(specification, SceneFacts.from_plain(header.facts), header.scene)
    except ValueError as error:
        raise RenderingFailed(
            f"the manifest tells of no movie ({error}).",
            remedy="clear the task that renders.",
            retry=False,
            field="frames_dir",
        ) from error


def known_of(header: Header, manifest_sha256: str, used: Used | None = None) -> dict[str, Any]:
    """The values that are written into a movie's file to say where it is from: what it shows, and what rendered it. Of what
    differs from frame to frame they have the digest, for it may be longer than the movie.

    :param used: what rendering it has used; None where nobody told.
    """
    told = without_values(header.specification)
    if source := told.get("script"):  # a movie is handed on: no folders of the worker
        names = {_name(path): known for path, known in (source.get("digests") or {}).items()}
        arguments = digest(json.dumps(source.get("arguments") or {}, sort_keys=True).encode())
        told["script"] = {"file": _name(source["file"]), "arguments": {"sha256": arguments}, "digests": names}
    overlays = dict(told.get("overlays") or {})
    if logo := overlays.pop("logo", None):
        told["overlays"] = overlays
    table = told.pop("per_frame", None)
    return {
        "specification": told,
        **({"logo": _name(logo)} if logo else {}),
        **({} if table is None else {"per_frame_sha256": digest(json.dumps(table, sort_keys=True).encode())}),
        "braynsService": header.version,
        "way": header.way,
        "manifest_sha256": manifest_sha256,
        **({} if used is None else {"used": used.plain()}),
    }


def _name(path: str) -> str:
    return Path(path).name if path.startswith("/") else path


def read_manifest(folder: Path) -> tuple[Manifest, Header, str] | None:
    """Read the manifest of a folder: the manifest, its header, and its SHA-256; None where there is none.

    :raises RenderingFailed: the manifest cannot be read, or has no header.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RenderingFailed(
            f"{folder / MANIFEST} cannot be read: {error.strerror}.",
            remedy="see that the worker may read it; a retry looks again.",
            field="frames_dir",
        ) from error
    found = Manifest.read(data.decode("utf-8", "replace").splitlines()).usable()
    if found.header is None:
        raise RenderingFailed(
            f"{folder / MANIFEST} does not tell of which movie its frames are.",
            remedy="clear the task that renders them.",
            retry=False,
            field="frames_dir",
        )
    return found, found.header, digest(data)


def rendered_in(folder: Path, frames: int | None) -> tuple[FrameFiles | None, dict[str, Any]]:
    """The files of a folder that a movie is made of, and what is known of them; None in place of files for all that lie
    there.

    :param frames: how many frames there must be; None for as many as there are.
    :raises InvalidSetting: the manifest tells of a movie of another length.
    :raises RenderingFailed: see `whole_frames`.
    """
    found = read_manifest(folder)
    if found is None:
        return None, {"manifest_sha256": ""}
    manifest, header, sha256 = found
    plan = plan_of(header)
    if frames is not None and frames != len(plan.frames):
        raise InvalidSetting(
            "frames",
            f"{folder} holds a movie of {len(plan.frames)}, not of {frames}",
            remedy="leave it out, or correct frames_dir.",
        )
    return whole_frames(folder, plan, manifest), known_of(header, sha256, manifest.used_last())


def just_rendered(folder: Path, plan: Plan, header: Header) -> tuple[FrameFiles, dict[str, Any]]:
    """The files of a movie whose frames this task has rendered itself, and what is known of them; what is wrong with
    them, the next try mends.
    """
    found = read_manifest(folder)
    manifest, sha256 = (found[0], found[2]) if found else (Manifest(None, {}), "")
    return whole_frames(folder, plan, manifest, retry=True), known_of(header, sha256, manifest.used_last())


def whole_frames(folder: Path, plan: Plan, manifest: Manifest, *, retry: bool = False) -> FrameFiles:
    """The files of a plan's frames, each proved to be as it was written; whatever else lies in the folder is not looked
    at.

    :param retry: whether the task that asks renders them itself.
    :raises RenderingFailed: some are missing, damaged or of another movie; the error lists them.
    """
    # looked at before they are found right
    files = FrameFiles.look([folder / plan.file(one) for one in plan.pictures], Drawing.of(plan))
    survey = survey_folder(folder, plan, manifest, thorough=True)
    if survey.left:
        # touched, so that whoever renders reads the file though size and time are as they were
        for frame in survey.damaged:
            with contextlib.suppress(OSError):
                os.utime(folder / plan.file(frame), follow_symlinks=False)
        raise RenderingFailed(incomplete(str(folder), plan, survey), remedy=CLEAR, field="frames", retry=retry)
    return files


CLEAR = "clear the task that renders them: it renders only these."


def incomplete(folder: str, plan: Plan, survey: Survey) -> str:
    """The sentence that says why a movie is not encoded."""
    return f"{len(survey.left)} of {len(plan.pictures)} in {folder} cannot be encoded: {survey.text(plan)}."
