"""The plugin that puts the page into Airflow's UI.

Airflow loads every plugin in every process, tasks included, so this imports next to nothing: the app is made by the
first request for it, which only an API server gets.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_brayns.page import FILES

PREFIX = "/brayns"
# A browser keeps a bundle of the same address, so another bundle has another one.
_BUNDLE = hashlib.sha256((FILES / "page.js").read_bytes()).hexdigest()[:12]


def _made() -> Any:
    from airflow_brayns.page.app import make_app

    return make_app()


class PageApp:
    """An ASGI app that stands for the page's FastAPI app until that is needed."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            self._app = await asyncio.to_thread(_made)  # the server answers others meanwhile
        await self._app(scope, receive, send)


class BraynsPlugin(AirflowPlugin):
    """The page *Brayns* in the menu, and the routes under `/brayns` that it reads from."""

    name = "brayns"
    fastapi_apps = [{"app": PageApp(), "url_prefix": PREFIX, "name": "Brayns"}]
    react_apps = [
        {
            "name": "Brayns",
            "bundle_url": f"brayns/files/page.js?v={_BUNDLE}",
            "icon": "brayns/files/icon.svg",
            "icon_dark_mode": "brayns/files/icon-dark.svg",
            "destination": "nav",
            "url_route": "brayns",
            "nav_top_level": True,
        }
    ]
