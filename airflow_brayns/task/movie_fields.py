"""Readers of movie operators' fields, which check what was given or templated before a node is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from airflow_brayns.brayns.official import official_client
from airflow_brayns.errors import BraynsError, InvalidSetting, together
from airflow_brayns.errors.plain import shown
from airflow_brayns.movie.fields import check_is_file, path_problem
from airflow_brayns.movie.frame_folder import remove_frames
from airflow_brayns.movie.images import vips
from airflow_brayns.movie.overlay_layers import check_overlays
from airflow_brayns.movie.script import ScriptSpecification, script_of, specification_of
from airflow_brayns.movie.script_file import SUFFIX, ScriptFile, is_movie
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.services.settings import FIELDS, literal
from airflow_brayns.task.fields import is_set, node_hours_of, whole_number, word_list
from airflow_brayns.task.file_values import renderer_of, values_for
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.operator import BraynsOperator
from airflow_brayns.task.script_trust import (
    check_inputs,
    check_may_bring,
    check_same,
    is_authors,
    script_path,
    user_path,
)

_TEXTS = (".yaml", ".yml", ".json")
_LONGEST_BESIDE = ".frames-01234567"  # of the names that others beside a movie have behind its own: its frames' folder


def read_specification(operator: BraynsOperator, value: Any, context: Mapping[str, Any] | None) -> MovieSpecification:
    """Read a specification that is given as a file's path, as YAML or JSON, or as plain values.

    :param context: a file's text is a template too, rendered with plain values of this (see `task.file_values`);
        None to take it as it is.
    :raises InvalidSetting: it is no specification, or nothing here can join its tiles; the error names the key and, in a
        file, its line.
    """
    found = _read_specification(operator, value, context)
    if found.tiles is not None:
        vips()
    return found


def _read_specification(operator: BraynsOperator, value: Any, context: Mapping[str, Any] | None) -> MovieSpecification:
    if isinstance(value, MovieSpecification):
        return value
    if isinstance(value, str) and (plain := literal(value) if value.lstrip()[:1] == "{" else None):
        value = plain
    if (script := script_path(value)) is not None:
        return read_script(operator, script, value, context)
    if isinstance(value, str) and "\n" not in value and value.strip().lower().endswith(_TEXTS):
        path = user_path("specification", value.strip())
        check_is_file("specification", path)
        found = MovieSpecification.read_file(path, renderer_of(path, context, template_values_of(operator)))
    elif isinstance(value, str) and not {":", "{"} & set(value):
        raise InvalidSetting(
            "specification",
            f"{shown(value, 200)} is neither YAML nor a path that ends in {', '.join((*_TEXTS, SUFFIX))}.",
            remedy="give one of them.",
        )
    elif isinstance(value, str):
        found = MovieSpecification.read(value)
    elif isinstance(value, Mapping):
        found = MovieSpecification.check(dict(value))
    else:
        raise InvalidSetting("specification", f"must be a file's path, YAML, JSON or a dict, not {reprlib.repr(value)}")
    check_overlays(found)
    if operator.read_settings().scheduler == "local":
        for index, model in enumerate(found.models):
            if not Path(model.path).exists():
                raise InvalidSetting(
                    f"models.{index}.path",
                    f"{model.path} does not exist on this machine.",
                    remedy="correct it, or name a cluster whose nodes have it.",
                )
    return found


def template_values_of(operator: BraynsOperator) -> Mapping[str, Any] | None:
    """The field `template_values` of an operator, which may have been templated; None where nothing is given.

    :raises InvalidSetting: it is no dict.
    """
    more = getattr(operator, "template_values", None)
    if is_set(more) and not isinstance(more := literal(more) if isinstance(more, str) else more, Mapping):
        raise InvalidSetting("template_values", f"must be a dict, not {reprlib.repr(more)}")
    return more or None


def read_script(
    operator: BraynsOperator, path: Path, value: Any, context: Mapping[str, Any] | None
) -> ScriptSpecification:
    """Read the specification of a file of Python, which is run for that: only one that somebody may bring.

    :param value: the field as it was given: a path, or plain values of a file that was read before.
    :raises InvalidSetting: the file may not be brought, or cannot work; the error names the line.
    """
    index = getattr((context or {}).get("ti"), "map_index", None)
    mapped = index is not None and index >= 0  # its fields come from another task
    written = getattr(operator, "written", None)
    if mapped or not is_authors(written, getattr(operator, "specification", None)):
        path = check_may_bring(path, context)
    official_client()
    values = values_for(context, template_values_of(operator))
    if not isinstance(value, Mapping):
        found = ScriptFile(path, values).specification()
    else:  # the settings of when it was read, of what the file is now
        given = specification_of(value)
        source = script_of(given)
        now = ScriptFile(path, source.arguments if source else values).specification()
        check_same(source.digests if source else {}, now.script.digests)
        found = now.model_copy(update={name: getattr(given, name) for name in given.model_fields_set - {"script"}})
    check_overlays(found)
    if operator.read_settings().scheduler == "local":
        check_inputs(found.script.inputs)
    return found


def check_output(path: str, field: str = "output_file") -> Path:
    """Check a path to write to; its folder is made if need be.

    :raises InvalidSetting: the path is none, or its folder cannot be written; the error names the field.
    """
    if not path or "\0" in path:
        raise InvalidSetting(field, f"{path[:200]!r} is not a path", remedy="give a path.")
    try:
        os.fsencode(path)
        if problem := path_problem(path, home=True):
            raise InvalidSetting(field, f"{problem}.", remedy="write a path on the worker out.")
        target = Path(path).expanduser().absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
    except (UnicodeEncodeError, RuntimeError):  # the text holds half a character, or `~name` of no user
        raise InvalidSetting(field, f"{path[:200]!r} is not a path", remedy="give a path.") from None
    except OSError as error:
        raise InvalidSetting(
            field,
            f"{target.parent} cannot be made: {error.strerror}.",
            remedy="choose a folder that the worker may write.",
        ) from error
    if not os.access(target.parent, os.W_OK):
        raise InvalidSetting(
            field, f"{target.parent} cannot be written by the worker.", remedy="choose another folder."
        )
    _check_name(target, field)
    return target


def _check_name(target: Path, field: str) -> None:
    """Check that a file can be made of a name, together with those beside it: it would be found out when all is rendered.

    :raises InvalidSetting: it cannot; the error names the field.
    """
    longest = 0  # some file systems do not tell it
    with contextlib.suppress(OSError):
        longest = os.pathconf(target.parent, "PC_NAME_MAX")
    most = longest - len(_LONGEST_BESIDE)
    if longest > 0 and len(os.fsencode(target.stem)) > most:
        raise InvalidSetting(
            field, f"{target.name[:80]!r}… is too long a name.", remedy=f"make it shorter than {most} bytes."
        )
    if target.suffix and target.is_dir():
        raise InvalidSetting(field, f"{target} is a folder.", remedy="name a file that is not there, or a movie.")


def is_on_cluster(value: Any) -> bool:
    """Read the field `frames_on`, which may have been templated: True for `cluster`.

    :raises InvalidSetting: the value is neither `worker` nor `cluster`.
    """
    if value not in ("worker", "cluster"):
        raise InvalidSetting("frames_on", f"{value!r} is none of them.", remedy="take worker or cluster.")
    return bool(value == "cluster")


def drop_frames(folder: Path) -> None:
    """Remove a movie's frames, and their folder if nothing else is in it; the movie is made, so this raises no error."""
    with contextlib.suppress(OSError):
        remove_frames(folder)


@guarded
def check_movie(params: Mapping[str, Any], run_id: str, context: Context | None = None) -> dict[str, Any]:
    """Check the parameters of the DAG `brayns_movie`.

    :param run_id: the run's id, so that two runs with one output do not share their frames.
    :param context: the task's context, whose plain values a specification's file may use.
    :return: `specification` as plain values, with the run's output and budget, absolute paths `movie`, and `frames`, a
        folder beside it that is this run's own.
    :raises AirflowException: a parameter cannot work; the error names it, or the specification's key and line.
    """
    around = None if context is None else {**context, "params": dict(params), "run_id": run_id}
    operator = BraynsOperator(task_id="check", **_cluster_of(params))
    specification = read_specification(operator, params["specification"], around)
    settings = operator.read_settings()
    settings.request(whole_number("nodes", params["nodes"]))
    settings.service(tuple(_plugins_of(params)))
    asked = params.get("output")
    movie = check_output(str(asked if is_set(asked) else specification.output), "output")
    specification.encoding.check_output(movie)
    frames: Path = movie.with_name(f"{movie.stem}.frames-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}")
    budget = _budget_of(params, specification, context)
    return {
        "specification": specification.model_copy(update={"output": str(movie), "budget": budget}).plain(),
        "movie": str(movie),
        "frames": str(frames),
        "fps": specification.fps,
        "codec": specification.codec,
    }


def _budget_of(params: Mapping[str, Any], specification: MovieSpecification, context: Context | None) -> float | None:
    """The node-hours that a run of `brayns_movie` may use. Its parameter holds, which nobody can change any more; once the
    run is cleared, so does a larger one in the specification.
    """
    asked, written = node_hours_of("budget", params.get("budget")), specification.budget
    if asked is None or written is None:
        return written if asked is None else asked
    tries = getattr((context or {}).get("ti"), "try_number", 1)  # of a task that has no retries
    return max(asked, written) if tries > 1 else asked


def _cluster_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's parameters say of the cluster; a DAG that somebody has copied may have some of them only."""
    return {name: params[name] for name in ("cluster_conn_id", *FIELDS) if name in params}


def _plugins_of(params: Mapping[str, Any]) -> list[str]:
    more = str(params.get("more_plugins") or "").replace(",", " ").split()
    return [*word_list("plugins", params.get("plugins")), *more]


@guarded
def find_movies(params: Mapping[str, Any], context: Context | None = None) -> list[dict[str, str]]:
    """Find the specifications in a folder, for the DAG `brayns_movie_batch`; all of them are checked before any is
    rendered.

    :param context: the task's context, which tells the DAG's folder, from which Python may come.
    :return: for each `specification`, its path, and `output_file` in the folder `output`.
    :raises AirflowException: there are none, two would make the same movie, or one cannot work.
    """
    operator = BraynsOperator(task_id="find", **_cluster_of(params))
    settings = operator.read_settings()
    settings.request(whole_number("nodes", params.get("nodes", 1)))
    settings.service(tuple(_plugins_of(params)))
    around = {**(context or {}), "params": dict(params)}
    folder = user_path("folder", str(params["folder"])).absolute()
    there = sorted(folder.glob("*"))
    found = [path for path in there if path.suffix.lower() in _TEXTS]
    found += _scripts(operator, [path for path in there if path.suffix.lower() == SUFFIX and is_movie(path)])
    if not found:
        why = f"there is no {', '.join(f'*{one}' for one in (*_TEXTS, SUFFIX))} in {folder}"
        raise InvalidSetting("folder", why, remedy="put a specification there, or name another folder.")
    movies: dict[str, str] = {}
    troubles = list[BraynsError]()
    for path in found:
        try:
            specification = read_specification(operator, str(path), around if path.suffix.lower() == SUFFIX else None)
            output = Path(str(params["output"])) / f"{path.stem}{Path(specification.output).suffix}"
            if str(output) in movies:
                why = f"{movies[str(output)]} would make the same {output.name}"
                raise InvalidSetting("output", why, remedy="give one of the files another name.")
            movies[str(output)] = str(path)
        except InvalidSetting as error:
            troubles.append(BraynsError(f"{path.name}: {error}", retry=error.retry))
    if troubles:
        raise together(troubles)
    return [{"specification": path, "output_file": output} for output, path in movies.items()]


def _scripts(operator: BraynsOperator, found: list[Path]) -> list[Path]:
    """The movies of Python in a folder; where they cannot be run the log says so, and the others are made."""
    try:
        if found:
            official_client()
    except BraynsError as error:
        operator.log.warning("%s are left out. %s", ", ".join(path.name for path in found), error)
        return []
    return found
