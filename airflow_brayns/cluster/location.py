"""Hosts and the services on them: which machine a host is, however it is spelled, and which service of ours listens
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from airflow_brayns.cluster import protocol
from airflow_brayns.cluster.answers import whole
from airflow_brayns.cluster.protocol import ANSWERS
from airflow_brayns.cluster.submission import NAME, SERVICE
from airflow_brayns.errors.plain import visible

_LOOK_UP_SECONDS = 5.0
_MOST_WORDS = 500  # names and addresses of one host that are kept
_MOST_NODES = 64  # nodes whose addresses are asked for, those of the latest services first


def spelled(host: str) -> str:
    """The one spelling in which a host's name or address is compared with others."""
    text = host.strip().strip("[]").rstrip(".").lower()
    address = _address(text)
    return text if address is None else str(address)


def is_loopback(host: str) -> bool:
    """Tell by the spelling alone whether a host means whichever machine is asked, as `localhost` does."""
    text = spelled(host)
    address = _address(text)
    if address is None:
        return text in ("localhost", "localhost.localdomain", "ip6-localhost") or text.endswith(".localhost")
    return address.is_loopback or address.is_unspecified  # a client of 0.0.0.0 reaches its own machine


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@dataclass(frozen=True)
class Host:
    """A machine, by all that is known to mean it.

    :param names: its names, as `spelled` gives them.
    :param addresses: its addresses, as `spelled` gives them; for a machine that was asked, also `loopback_of` it.
    """

    names: frozenset[str] = field(default=frozenset())
    addresses: frozenset[str] = field(default=frozenset())

    def is_same(self, other: Host) -> bool:
        """Tell whether both are one machine: they share a name or an address."""
        return bool(self.names & other.names or self.addresses & other.addresses)

    def __or__(self, other: Host) -> Host:
        return Host(self.names | other.names, self.addresses | other.addresses)


def loopback_of(machine: str) -> str:
    """A machine's loopback address together with the machine's name, since 127.0.0.1 is another machine on each."""
    return f"{machine.lower()}/127.0.0.1"


def host_of(words: Iterable[str], machine: str, own: frozenset[str]) -> Host:
    """The host that some names and addresses mean, on a machine that knows them.

    :param words: the host's names and addresses.
    :param machine: name of the machine that knows them.
    :param own: that machine's own addresses.
    """
    words = {spelled(word) for word in words if word}
    addresses = {word for word in words if _address(word) is not None}
    here = {word for word in words if is_loopback(word) or word in own}
    found = {word for word in addresses if not is_loopback(word)} | ({loopback_of(machine)} if here else set())
    return Host(frozenset(word for word in words - addresses if not is_loopback(word)), frozenset(found))


async def known_here(host: str) -> Host:
    """Look a host up on this machine; where it is this machine, the addresses of this machine's own name are added."""
    found = await _resolved(host)
    here = is_loopback(host) or any(is_loopback(one) or _is_own(one) for one in found)
    more = await _resolved(socket.gethostname()) if here else frozenset()
    own = frozenset(one for one in found | more if _is_own(one))
    return host_of({host, *found, *(more & own)}, socket.gethostname(), own)


async def _resolved(host: str) -> frozenset[str]:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            found = await loop.getaddrinfo(spelled(host), None, type=socket.SOCK_STREAM)
            return frozenset(spelled(str(one[4][0])) for one in found)
    return frozenset()


def _is_own(address: str) -> bool:
    """Tell whether an address is this machine's: the kernel would speak to it from that very address. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return spelled(str(probe.getsockname()[0])) == address
    return False


@dataclass(frozen=True)
class Listener:
    """A service of ours that listens at a port, or was the last one to do so.

    :param name: the allocation's name.
    :param service: the service's name in the allocation.
    :param lives: whether its folder tells of no end.
    """

    name: str
    incarnation: int
    service: str
    lives: bool
    node: str


def read_listeners(answer: str) -> list[Listener]:
    """Read the services that `listening_at` in find.sh prints, the latest first."""
    found = []
    for word, fields in protocol.read(ANSWERS["find"], answer):
        match word, fields:
            case "at", [name, number, service, ("lives" | "over") as lives, node] if (
                NAME.fullmatch(name)
                and SERVICE.fullmatch(service)
                and (incarnation := whole(number)) is not None
                and " " not in node
            ):
                found.append(Listener(name, incarnation, service, lives == "lives", visible(node)))
    return found


def best(listeners: Sequence[Listener]) -> Listener | None:
    """The latest listener that lives; where none does, the latest of all; None where there is none."""
    return next((one for one in listeners if one.lives), listeners[0] if listeners else None)


def nodes_of(listeners: Sequence[Listener]) -> list[str]:
    """The nodes whose addresses are worth asking for: those of living listeners, or of all where none lives."""
    living = [one for one in listeners if one.lives]
    return list(dict.fromkeys(one.node for one in living or listeners if one.node))[:_MOST_NODES]


def read_hosts(answer: str) -> Mapping[str, Host]:
    """Read what `hosts` prints: each host that was asked for, as the machine that was asked knows it."""
    words: dict[str, list[str]] = {}
    for word, fields in protocol.read(ANSWERS["find"], answer):
        if word == "host" and fields[0]:
            words.setdefault(visible(fields[0]), []).extend(visible(fields[1]).split()[:_MOST_WORDS])
    here = words.pop(".", [])
    machine = here[0] if here else ""
    own = frozenset(spelled(word) for word in here)
    return {name: host_of({name, *known}, machine, own) for name, known in words.items()}
