"""Whether a movie's parameters can work, before a node is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.encode import Encoding
from airflow_brayns.operators.base import BraynsOperator, is_set, whole_number, word_list
from airflow_brayns.operators.fields import check_output, read_specification


def check_movie(params: Mapping[str, Any], run_id: str, context: Context | None = None) -> dict[str, Any]:
    """Check the parameters of the DAG `brayns_movie`.

    :param run_id: so that two runs with one output do not share their frames.
    :param context: the task's; a specification's file is a template of plain values of it.
    :return: `specification` as plain values, absolute paths `movie`, and `frames`, a folder beside it that is this run's own.
    :raises AirflowFailException: naming the field, or the specification's key and line.
    """
    around = None if context is None else {**context, "params": dict(params), "run_id": run_id}
    operator = BraynsOperator(
        task_id="check",
        cluster_conn_id=params["cluster_conn_id"],
        account=params.get("account"),
        partition=params.get("partition"),
    )
    try:
        specification = read_specification(operator, params["specification"], around)
        settings = operator.read_settings()
        settings.request(whole_number("nodes", params["nodes"]))
        settings.service(tuple(word_list("plugins", params["plugins"])))
        asked = params.get("output")
        movie = check_output(str(asked if is_set(asked) else specification.output), "output")
        Encoding(specification.codec, specification.fps).check_output(movie)
    except InvalidSetting as error:
        raise AirflowFailException(str(error)) from error
    frames: Path = movie.with_name(f"{movie.stem}.frames-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}")
    return {
        "specification": specification.model_copy(update={"output": str(movie)}).plain(),
        "movie": str(movie),
        "frames": str(frames),
        "fps": specification.fps,
        "codec": specification.codec,
    }


def find_movies(params: Mapping[str, Any]) -> list[dict[str, str]]:
    """The specifications in a folder, for the DAG `brayns_movie_batch`: all of them are checked before any is rendered.

    :return: for each `specification`, its path, and `output_file` in the folder `output`.
    :raises AirflowFailException: there are none, two would make the same movie, or one cannot work.
    """
    operator = BraynsOperator(task_id="find", cluster_conn_id=params["cluster_conn_id"])
    folder = Path(str(params["folder"])).expanduser().absolute()
    found = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml", ".json"))
    if not found:
        raise AirflowFailException(f"folder: there is no *.yaml, *.yml or *.json in {folder}")
    movies: dict[str, str] = {}
    troubles = []
    for path in found:
        try:
            specification = read_specification(operator, str(path), None)
            output = Path(str(params["output"])) / f"{path.stem}{Path(specification.output).suffix}"
            if str(output) in movies:
                raise InvalidSetting("output", f"{movies[str(output)]} would make the same {output.name}")
            movies[str(output)] = str(path)
        except InvalidSetting as error:
            troubles.append(f"{path.name}: {error}")
    if troubles:
        raise AirflowFailException("\n".join(troubles))
    return [{"specification": path, "output_file": output} for output, path in movies.items()]
