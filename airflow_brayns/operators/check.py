"""Whether a movie's parameters can work, before a node is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.operators.base import whole_number, word_list
from airflow_brayns.operators.movie import RenderFramesOperator, check_fps, check_movie_file


def check_movie(params: Mapping[str, Any], run_id: str) -> dict[str, str]:
    """Check the parameters of the DAG `brayns_movie`.

    :param run_id: so that two runs with one output do not share their frames.
    :return: absolute paths: `movie`, and the folder `frames` beside it, which is this run's own.
    :raises AirflowFailException: naming the field.
    """
    fields = ("scene", "camera", "frames", "width", "height", "renderer", "cluster_conn_id")
    operator = RenderFramesOperator(
        task_id="check",
        endpoints=[],
        frames_dir="",
        account=params.get("account"),
        partition=params.get("partition"),
        **{name: params[name] for name in fields},
    )
    try:
        operator.shot()
        settings = operator.read_settings()
        settings.request(whole_number("nodes", params["nodes"]))
        settings.service(tuple(word_list("plugins", params["plugins"])))
        check_fps(params["fps"])
        movie = check_movie_file(str(params["output"]), "output")
    except InvalidSetting as error:
        raise AirflowFailException(str(error)) from error
    frames: Path = movie.with_name(f"{movie.stem}.frames-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}")
    return {"movie": str(movie), "frames": str(frames)}
