"""The routes that the page reads from. Each asks Airflow's auth manager who may read what.

Nothing is changed here: the page triggers and ends runs by Airflow's own API, with its checks. Airflow mounts a plugin's
app without any authentication (3.3.2), and dependencies guard neither mounts nor docs: so there are none of them.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_authenticated
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse

from airflow_brayns.links.texts import connect_lines
from airflow_brayns.page import FILES
from airflow_brayns.page.access import Access
from airflow_brayns.page.media import BusyError, Found, Shown, found, recorded
from airflow_brayns.page.rows import Reading, offered
from airflow_brayns.page.stored import clusters_of, facts_of, offers_of, read, session_dag
from airflow_brayns.version import __version__

router = APIRouter(dependencies=[Depends(requires_authenticated())])
MapIndex = Annotated[int, Query(ge=-1, lt=2**31)]  # as the database's column holds it: a larger one ended in a 500
_ENDPOINT = "{endpoint}"  # what the page puts an endpoint in for


class File(StrEnum):
    """A file of the page. None holds anything secret; who is not logged in gets none of them all the same."""

    PAGE = "page.js"
    ICON = "icon.svg"
    ICON_DARK = "icon-dark.svg"


@router.get("/state")
def state(request: Request, user: GetUserDep, session: SessionDep) -> Response:
    """All that the page shows, in one answer: services, movies, and what the user may do. With an ETag: what has not
    changed is not sent again.
    """
    access = Access(user, session)
    told, more = read(session, access.readable, access.asked)
    reading = Reading(told)
    shown = {
        "version": __version__,
        "services": reading.services(),
        "movies": reading.movies(),
        "more": more,
        "may": {dag_id: access.may(dag_id) for dag_id in sorted({task.run.dag_id for task in told})},
        "session": session_dag(session, access),
        "connect": {"plain": connect_lines(_ENDPOINT), "tls": connect_lines(_ENDPOINT, certificate=True)},
    }
    return _answer(request, shown)


@router.get("/clusters")
def clusters(request: Request, user: GetUserDep, session: SessionDep) -> Response:
    """The clusters' connections that the user may read, each with what it says of a job, and what the clusters offer; no secret
    is among that.
    """
    access = Access(user, session)
    told = {
        "clusters": clusters_of(session, access.connections()),
        "offers": offered(offers_of(session, access.readable)),
    }
    return _answer(request, told)


@router.get("/movies/{shown}")
def movies(
    shown: Shown,
    user: GetUserDep,
    session: SessionDep,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: MapIndex = -1,
) -> FileResponse:
    """A movie, or a picture of it, that a task has recorded; a part of it where the request asks for a range of bytes."""
    if not Access(user, session).readable([dag_id]):
        raise HTTPException(404, "There is no such task that you may see.")
    facts = facts_of(session, dag_id, run_id, task_id, map_index)
    session.close()  # no connection of the database waits for a file system
    try:
        file = found(recorded(facts, shown))
    except BusyError:
        raise HTTPException(503, "The file system of this movie does not answer.") from None
    if file is None:
        raise HTTPException(404, "The API server's machine has no such file: its path is on the worker.")
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(file.name, safe='')}",
        "Vary": "Cookie, Authorization",
        "X-Content-Type-Options": "nosniff",
    }
    return Sent(file, headers)


class Sent(FileResponse):
    """The answer with a file that is open already, and is closed when it was sent.

    :param file: it counts as what was looked at, whatever has its name by now.
    """

    def __init__(self, file: Found, headers: dict[str, str]) -> None:
        self._descriptor = file.descriptor
        about = os.fstat(file.descriptor)
        super().__init__(f"/dev/fd/{file.descriptor}", media_type=file.kind, headers=headers, stat_result=about)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it, or the part that is asked for."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


@router.get("/files/{name}")
def files(name: File) -> FileResponse:
    """One of the page's own files; its address changes with its content."""
    return FileResponse(FILES / name.value, headers={"Cache-Control": "private, max-age=86400"})


def make_app() -> FastAPI:
    """The app of all routes."""
    app = FastAPI(title="Brayns", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    return app


def _answer(request: Request, shown: dict[str, Any]) -> Response:
    body = json.dumps(shown, separators=(",", ":"), allow_nan=False).encode()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
