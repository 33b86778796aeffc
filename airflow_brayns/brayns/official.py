"""The official client, which tasks with Python of their own need, and which not every Python can import."""

from __future__ import annotations

import sys
from typing import Any

from airflow_brayns.errors import BraynsError

_LAST = (3, 12)  # the last Python that imports version 3.10.1, the last of the client (tried)


def official_client() -> Any:
    """The module `brayns`.

    :raises BraynsError: it is not installed, or cannot be imported here; the error says what to do.
    """
    try:
        import brayns
    except Exception as error:  # on 3.13 it is a TypeError of its classes
        raise BraynsError(_remedy(error), retry=False) from error
    return brayns


def _remedy(error: Exception) -> str:
    # A missing module's own words tell no reader what to install.
    why = "is not installed here" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error!r}"
    if sys.version_info[:2] > _LAST:
        why = f"does not import on Python {sys.version_info.major}.{sys.version_info.minor}, which this is"
    return (
        "Install the extra `client` where tasks run: pip install 'airflow-brayns[client]', on Python 3.11 or 3.12. "
        f"The official client {why}."
    )
