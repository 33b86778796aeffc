"""An Airflow connection of type `ssh`, read once, and the SSH connections that are opened with it.

Airflow's `SSHHookAsync` asks for the connection inside the loop each time it connects, which in a worker must never be
cancelled (see `airflow_brayns.supervisor`). The fields mean here what they mean there (SSH provider 7.0.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_brayns.errors import InvalidSetting

if TYPE_CHECKING:
    import asyncssh

DEFAULT_PORT = 22
DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"


@dataclass(frozen=True)
class SSHLogin:
    """What an `ssh` connection says; nothing of it is asked for again.

    :param known_hosts: a file, the text of a key (bytes), None for no check; `DEFAULT_KNOWN_HOSTS` where nothing is said.
    """

    conn_id: str
    host: str
    port: int
    username: str | None
    password: str | None = field(default=None, repr=False)
    key_file: str = ""
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    known_hosts: str | bytes | None = DEFAULT_KNOWN_HOSTS

    @classmethod
    def read(cls, conn_id: str, connection: Any) -> SSHLogin:
        """The connection's fields.

        :raises InvalidSetting: it cannot be used.
        """
        extras = connection.extra_dejson
        if not connection.host:
            raise InvalidSetting("ssh_conn_id", f"the connection {conn_id!r} names no host: give the login node's.")
        return cls(
            conn_id,
            connection.host,
            connection.port or DEFAULT_PORT,
            connection.login,
            connection.password,
            extras.get("key_file") or "",
            extras.get("private_key") or "",
            extras.get("passphrase") or extras.get("private_key_passphrase") or "",
            _known_hosts(conn_id, connection.host, extras),
        )

    async def connect(self) -> asyncssh.SSHClientConnection:
        """To the login node.

        :raises InvalidSetting: a key that cannot be read.
        """
        import asyncssh

        options = self._options()
        if self.known_hosts != DEFAULT_KNOWN_HOSTS or _default_is_there():
            options["known_hosts"] = _expanded(self.known_hosts)
        try:
            return await asyncssh.connect(self.host, self.port, username=self.username or (), **options)
        except ValueError as error:  # asyncssh.KeyImportError is one
            raise InvalidSetting("ssh_conn_id", f"the connection {self.conn_id!r} cannot be used: {error}") from error

    async def connect_node(
        self, login: asyncssh.SSHClientConnection, node: str, known_hosts: str | None
    ) -> asyncssh.SSHClientConnection:
        """On to a node through `login`: the same user and key; its host key is checked too.

        :param known_hosts: file with the nodes' host keys; None for the connection's own.
        """
        import asyncssh

        options = self._options()
        if known_hosts:
            options["known_hosts"] = _expanded(known_hosts)
        elif self.known_hosts != DEFAULT_KNOWN_HOSTS:
            options["known_hosts"] = _expanded(self.known_hosts)
        return await asyncssh.connect(node, tunnel=login, username=login.get_extra_info("username"), **options)

    def _options(self) -> dict[str, Any]:
        """What logs in, as asyncssh takes it.

        :raises InvalidSetting: a private key that is none.
        """
        import asyncssh

        options: dict[str, Any] = {}
        if self.password:
            options["password"] = self.password
        if self.passphrase:
            options["passphrase"] = self.passphrase
        if self.private_key:
            try:
                options["client_keys"] = [asyncssh.import_private_key(self.private_key, self.passphrase or None)]
            except ValueError as error:
                text = f"the private_key of the connection {self.conn_id!r} cannot be used: {error}"
                raise InvalidSetting("ssh_conn_id", text) from error
        elif self.key_file:
            options["client_keys"] = self.key_file
        return options


def _default_is_there() -> bool:
    """Left out where it is not, so that asyncssh says that the host is not trusted."""
    return Path(DEFAULT_KNOWN_HOSTS).expanduser().is_file()


def _expanded(known_hosts: str | bytes | None) -> str | bytes | None:
    return str(Path(known_hosts).expanduser()) if isinstance(known_hosts, str) else known_hosts


def _known_hosts(conn_id: str, host: str, extras: dict[str, Any]) -> str | bytes | None:
    """Where the login node's key is known from.

    :raises InvalidSetting: two things that do not go together.
    """
    unchecked = extras.get("no_host_key_check", extras.get("ignore_hostkey_verification"))
    host_key = str(extras.get("host_key") or "").split()
    if str(unchecked).lower() == "true":
        if host_key:
            raise InvalidSetting(
                "ssh_conn_id",
                f"the connection {conn_id!r} has a host_key, and no_host_key_check; leave one of them out",
            )
        return None
    if host_key:
        if host_key[0] == "ssh-dss":
            raise InvalidSetting(
                "ssh_conn_id", f"the host_key of the connection {conn_id!r} is of type ssh-dss, which is not supported"
            )
        # A bare key is RSA, as for Airflow's own hook; asyncssh needs the type spelled out.
        return " ".join([host, *(host_key[:2] if len(host_key) > 1 else ["ssh-rsa", *host_key])]).encode()
    known_hosts = str(extras.get("known_hosts") or DEFAULT_KNOWN_HOSTS)
    return None if known_hosts.lower() == "none" else known_hosts
