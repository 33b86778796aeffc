"""The endpoint of a braynsService: its host and port. Its text `host:port` is read and written in this module only."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address

from airflow_brayns.errors import InvalidSetting

_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True)
class Endpoint:
    """The host and port at which a braynsService listens, and what its clients need to speak with it; its text is
    `host:port`.

    :param host: a name or an address; an IPv6 address stands here without its brackets.
    :param ssl_context: how clients speak TLS with the service; None where it speaks none.
    """

    host: str
    port: int
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read an endpoint from its text `host:port`, as `str` writes it.

        :raises InvalidSetting: the text is not `host:port`.
        """
        match = _ENDPOINT.fullmatch(text.strip()) if isinstance(text, str) else None
        if not match or not 0 < int(match[2]) < 65536 or not _is_host(match[1]):
            raise InvalidSetting(
                "endpoint", f"{str(text)[:200]!r} is not that.", remedy="write host:port, such as r1i1n0:5000."
            )
        return cls(match[1].strip("[]"), int(match[2]))

    def at(self, port: int) -> Endpoint:
        """The endpoint of this service as it is reached through a tunnel, at a port of this machine."""
        return replace(self, host="127.0.0.1", port=port)


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return _HOST.fullmatch(text) is not None
    try:
        return bool(IPv6Address(text[1:-1]))
    except ValueError:
        return False
