"""Logins: an Airflow connection of type `ssh` is read once, and SSH connections are opened with it.

Airflow's `SSHHookAsync` asks for the connection inside the loop each time it connects, which in a worker must never be
cancelled (see `airflow_brayns.hooks.supervisor`). The fields mean here what they mean there (SSH provider 7.0.1).
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
    """The fields of an `ssh` connection, which Airflow is not asked for again.

    :param known_hosts: a file, or the text of a key (bytes); None for no check; `DEFAULT_KNOWN_HOSTS` where the
        connection says nothing.
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
        """Read the fields of a connection.

        :raises InvalidSetting: the connection cannot be used.
        """
        extras = connection.extra_dejson
        if not connection.host:
            raise InvalidSetting(
                "ssh_conn_id", f"the connection {conn_id!r} names no host.", remedy="give the login node's host."
            )
        return cls(
            conn_id,
            connection.host,
            connection.port or _configured_port(connection.host) or DEFAULT_PORT,
            connection.login,
            connection.password,
            extras.get("key_file") or "",
            extras.get("private_key") or "",
            extras.get("passphrase") or extras.get("private_key_passphrase") or "",
            _known_hosts(conn_id, connection.host, extras),
        )

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Open a connection to the login node.

        :raises InvalidSetting: a key cannot be read.
        """
        import asyncssh

        options = self._options()
        if self.known_hosts != DEFAULT_KNOWN_HOSTS or _default_is_there():
            options["known_hosts"] = _expanded(self.known_hosts)
        try:
            return await asyncssh.connect(self.host, self.port, username=self.username or (), **options)
        except FileNotFoundError as error:
            if not self.key_file or self.private_key:
                raise
            text = f"the key_file of the connection {self.conn_id!r} is not there: {error.filename or self.key_file} on this machine"
            raise InvalidSetting(
                "ssh_conn_id", text, remedy="put the key there, or correct key_file (on worker and triggerer)."
            ) from error
        except (asyncssh.ConfigParseError, UnicodeDecodeError) as error:
            text = f"~/.ssh/config cannot be read where Airflow runs: {error}"
            raise InvalidSetting("ssh_conn_id", text, remedy="correct that file (on worker and triggerer).") from error
        except ValueError as error:  # asyncssh.KeyImportError is a ValueError
            raise InvalidSetting(
                "ssh_conn_id",
                f"the connection {self.conn_id!r} cannot be used: {error}",
                remedy="correct key, passphrase or known_hosts of the connection.",
            ) from error

    async def connect_node(
        self, login: asyncssh.SSHClientConnection, node: str, known_hosts: str | None
    ) -> asyncssh.SSHClientConnection:
        """Open a connection to a node through `login`, with the same user and key; the node's host key is checked too.

        :param known_hosts: the file with the nodes' host keys; None for the connection's own.
        """
        import asyncssh

        options = self._options()
        if known_hosts:
            options["known_hosts"] = _expanded(known_hosts)
        elif self.known_hosts != DEFAULT_KNOWN_HOSTS:
            options["known_hosts"] = _expanded(self.known_hosts)
        return await asyncssh.connect(node, tunnel=login, username=login.get_extra_info("username"), **options)

    def _options(self) -> dict[str, Any]:
        """The options by which asyncssh logs in.

        :raises InvalidSetting: the private key cannot be read.
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
                raise InvalidSetting(
                    "ssh_conn_id", text, remedy="give the whole text of the private key, and its passphrase."
                ) from error
        elif self.key_file:
            options["client_keys"] = self.key_file
        return options


def _configured_port(host: str) -> int | None:
    """The port that `~/.ssh/config` names for a host; user, key and jump host asyncssh reads there itself."""
    config = Path("~/.ssh/config").expanduser()
    if not config.is_file():
        return None
    import asyncssh

    try:  # by asyncssh's own rules, by which the rest is read, too
        return asyncssh.SSHClientConnectionOptions(
            config=[str(config)], host=host, client_keys=None, known_hosts=None
        ).port
    except (OSError, ValueError):  # to connect tells what is wrong there
        return None


def _default_is_there() -> bool:
    """Tell whether the default file of known hosts is there. Where it is not, the option is left out, so that asyncssh
    says that the host is not trusted.
    """
    return Path(DEFAULT_KNOWN_HOSTS).expanduser().is_file()


def _expanded(known_hosts: str | bytes | None) -> str | bytes | None:
    return str(Path(known_hosts).expanduser()) if isinstance(known_hosts, str) else known_hosts


def _known_hosts(conn_id: str, host: str, extras: dict[str, Any]) -> str | bytes | None:
    """Read where the login node's key is known from.

    :raises InvalidSetting: two fields do not go together.
    """
    unchecked = extras.get("no_host_key_check", extras.get("ignore_hostkey_verification"))
    host_key = str(extras.get("host_key") or "").split()
    if str(unchecked).lower() == "true":
        if host_key:
            raise InvalidSetting(
                "ssh_conn_id",
                f"the connection {conn_id!r} has a host_key, and no_host_key_check.",
                remedy="leave one of them out.",
            )
        return None
    if host_key:
        if host_key[0] == "ssh-dss":
            raise InvalidSetting(
                "ssh_conn_id",
                f"the host_key of the connection {conn_id!r} is of type ssh-dss, which is not supported",
                remedy="give a key of another type, such as ssh-ed25519.",
            )
        # A bare key is RSA, as for Airflow's own hook; asyncssh needs the type spelled out.
        return " ".join([host, *(host_key[:2] if len(host_key) > 1 else ["ssh-rsa", *host_key])]).encode()
    known_hosts = str(extras.get("known_hosts") or DEFAULT_KNOWN_HOSTS)
    return None if known_hosts.lower() == "none" else known_hosts
