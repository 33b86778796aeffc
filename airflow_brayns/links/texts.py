"""The texts that links and the session's log show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def jobs(job_ids: Sequence[str]) -> str:
    """How to look at jobs."""
    listed = ",".join(job_ids)
    return f"Jobs {listed}\n\nsqueue -j {listed}\nscontrol show job {job_ids[0]}\n"


def tunnel(endpoint: str, login: Login | None, route: str = "ssh") -> str:
    """The command that brings an endpoint to this machine's port 5000.

    :param login: the login node; None where the endpoint is reached directly.
    :param route: `node` where the service listens on its node's loopback only.
    """
    if login is None:
        return f"No tunnel is needed: connect to {endpoint}"
    if route == "node":
        host, _, port = endpoint.rpartition(":")
        return f"ssh -N -J {login.jump} -L 5000:localhost:{port} {login.user_at(host)}"
    return f"ssh -N -L 5000:{endpoint} {login.words}"


@dataclass(frozen=True)
class Login:
    """A login node as ssh's command line names it."""

    user: str | None
    host: str
    port: int | None = None

    def user_at(self, host: str) -> str:
        """`user@host`."""
        return f"{self.user}@{host}" if self.user else host

    @property
    def words(self) -> str:
        """As ssh's target."""
        port = f" -p {self.port}" if self.port not in (None, 22) else ""
        return f"{self.user_at(self.host)}{port}"

    @property
    def jump(self) -> str:
        """As the value of `-J`."""
        port = f":{self.port}" if self.port not in (None, 22) else ""
        return f"{self.user_at(self.host)}{port}"


def connect_lines(endpoint: str, certificate: bool = False) -> str:
    """Python that connects the official client.

    :param certificate: whether the service has a certificate of its own, which is in XCom `services`.
    """
    tls = ', ssl_context=brayns.SslClientContext(cafile="certificate.pem")' if certificate else ""
    note = (
        "# certificate.pem: the text under `certificate` in XCom `services` of the task that started it\n"
        if tls
        else ""
    )
    return f'{note}import brayns\ninstance = brayns.Connector("{endpoint}"{tls}).connect()\nprint(brayns.get_version(instance).release)'
