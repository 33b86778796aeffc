"""The texts that links and the session's log show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote


def jobs(job_ids: Sequence[str], scheduler: str = "slurm") -> str:
    """The commands by which somebody looks at jobs.

    :param scheduler: `local` where a job is a keeper's process on the worker.
    """
    listed = ",".join(job_ids)
    if scheduler == "local":
        pids = " ".join(job.partition(" ")[0] for job in job_ids)
        return f"Processes {pids} on the worker\n\nps -f -p {pids.replace(' ', ',')}\n"
    return f"Jobs {listed}\n\nsqueue -j {listed}\nscontrol show job {job_ids[0]}\n"


def tunnel(endpoint: str, login: Login | None, route: str = "ssh") -> str:
    """The command that brings an endpoint to a person's own port 5000, by the login that the person has there.

    :param login: the login node; None where the endpoint is reached directly.
    :param route: `node` where the service listens on its node's loopback only.
    """
    if login is None:
        return f"No tunnel is needed: connect to {endpoint}"
    if route == "node":
        host, _, port = endpoint.rpartition(":")
        return f"ssh -N -J {login.jump} -L 5000:localhost:{port} {login.user_at(host)}"
    return f"ssh -N -L 5000:{endpoint} {login.words}"


# Users, hosts and ports only: ssh hands what stands behind -J to a shell (older ones unchecked), and the login's to that of a
# person's own ProxyCommand.
_PLACE = r"[\w.\[][\w.+=@:\[\]-]*"
_TUNNEL = re.compile(
    rf"ssh -N (?:-J (?P<jump>{_PLACE}) )?-L 5000:(?P<target>{_PLACE}:[0-9]{{1,5}}) (?P<login>{_PLACE})(?: -p (?P<port>[0-9]{{1,5}}))?"
)


def way_through(tunnel: str) -> list[str]:
    """The words of the ssh command line that passes one connection to where a tunnel leads, on its standard input and
    output; none where the text is no tunnel's.

    :param tunnel: what `tunnel` or `tunnel_to` gave.
    """
    if (found := _TUNNEL.fullmatch(tunnel)) is None:
        return []
    jump, port = (["-J", found["jump"]] if found["jump"] else []), (["-p", found["port"]] if found["port"] else [])
    return ["ssh", *jump, *port, "-W", found["target"], "--", found["login"]]


def tunnel_to(endpoint: str, first: str, told: str) -> str:
    """The command that brings another endpoint of a booking to a person's own port 5000; empty where none is needed.

    :param told: what `tunnel` gave for the endpoint `first`, which is reached by the same login and route.
    """
    (host, _, port), (other, _, there) = first.rpartition(":"), endpoint.rpartition(":")
    head, direct, login = told.partition(f" -L 5000:{first} ")
    if direct:
        return f"{head} -L 5000:{endpoint} {login}"
    head, by_node, login = told.partition(f" -L 5000:localhost:{port} ")
    return f"{head} -L 5000:localhost:{there} {login.removesuffix(host)}{other}" if by_node else ""


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
        """The words of ssh's command line that name the login node."""
        port = f" -p {self.port}" if self.port not in (None, 22) else ""
        return f"{self.user_at(self.host)}{port}"

    @property
    def jump(self) -> str:
        """The login node as the value of ssh's option `-J`."""
        port = f":{self.port}" if self.port not in (None, 22) else ""
        return f"{self.user_at(self.host)}{port}"


def log_command(paths: Sequence[str], login: Login | None) -> str:
    """The commands that read services' logs, which lie where the cluster sees them."""
    return "\n".join(
        f"tail -f {quote(path)}" if login is None else f"ssh {login.words} {quote(f'tail -f {quote(path)}')}"
        for path in paths
    )


def service_url(endpoint: str, generation: int, *, secure: bool) -> str:
    """The address that a browser can ask a service at: its health, or its version for generation 1."""
    return f"{'https' if secure else 'http'}://{endpoint}/{'version' if generation == 1 else 'healthz'}"


def connect_lines(endpoint: str, certificate: bool = False) -> str:
    """The lines of Python that connect the official client.

    :param certificate: whether the service has a certificate of its own, which is in XCom `services`.
    """
    tls = ', ssl_context=brayns.SslClientContext(cafile="certificate.pem")' if certificate else ""
    note = (
        "# certificate.pem: the text under `certificate` in XCom `services` of the task that started it\n"
        if tls
        else ""
    )
    return f'{note}import brayns\ninstance = brayns.Connector("{endpoint}"{tls}).connect()\nprint(brayns.get_version(instance).release)'
