"""The texts that links and the session's log show."""

from __future__ import annotations

from collections.abc import Sequence


def jobs(job_ids: Sequence[str]) -> str:
    """How to look at jobs."""
    listed = ",".join(job_ids)
    return f"Jobs {listed}\n\nsqueue -j {listed}\nscontrol show job {job_ids[0]}\n"


def tunnel(endpoint: str, login: str | None) -> str:
    """The command that brings an endpoint to this machine's port 5000.

    :param login: `user@host` of the login node; None where the endpoint is reached directly.
    """
    if login is None:
        return f"No tunnel is needed: connect to {endpoint}"
    return f"ssh -N -L 5000:{endpoint} {login}"


def connect_lines(endpoint: str) -> str:
    """Python that connects the official client."""
    return f'import brayns\ninstance = brayns.Connector("{endpoint}").connect()\nprint(brayns.get_version(instance).release)'
