"""Addresses that a server names: which of them may be contacted, and with what.

An agent's card can name any address. So the host that the administrator named is
trusted, also when it is private; every other one has to be on the public internet.
That is checked when a connection is made, on the address it goes to: between a
check of our own and the connection, a name could come to stand for another address.
"""

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

from shared.errors import UpstreamBroken

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """A connection was about to go to an address that is not public."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """Host names, with `*` and `?` as in a shell; in lower case.

    `named` are the administrator's own and may be private. What is in `denied` is
    never contacted, `*` being all that is not named.
    """

    named: tuple[str, ...]
    denied: tuple[str, ...] = ()

    def trusts(self, url: str) -> bool:
        """Whether the administrator named this host."""
        return matches_host(url, self.named)

    def denies(self, url: str) -> bool:
        """Whether this address is not to be contacted at all."""
        if urlsplit(url).scheme not in ("http", "https"):
            return True
        return matches_host(url, self.denied) and not self.trusts(url)


def matches_host(url: str, patterns: Collection[str]) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(fnmatchcase(host, pattern) for pattern in patterns)


def path_part(identifier: str) -> str:
    """An id as one part of a path; UpstreamBroken for what would lead elsewhere."""
    if identifier in (".", ".."):
        raise UpstreamBroken("unreadable")
    return quote(identifier, safe="")


def is_link(url: str) -> bool:
    """Whether a user may be given this address of a file: no script, no local file."""
    return url.startswith(("https://", "http://", "data:"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's.

    Not so: private, loopback, link-local, shared (RFC 6598), multicast and reserved
    ranges, and IPv6 addresses that carry an IPv4 address of these.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an entry of `getaddrinfo`; raises AddressRefused.

    aiohttp asks for one whenever it is about to connect, having resolved the name.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise AddressRefused("the address is not public")
    return socket.socket(family, kind, protocol)
