"""URLs that name some nodes of a cluster instead of one server."""

from __future__ import annotations

from typing import Final, NamedTuple

from cachebridge.errors import ConfigError
from cachebridge.l2.sentinel import host_and_port
from cachebridge.texts import is_told_from_login

FORM: Final = "+cluster"
PORT: Final = 6379

Address = tuple[str, int]


class ClusterUrl(NamedTuple):
    """The parts of a URL such as ``redis+cluster://user:pass@h1:6379,h2``."""

    servers: tuple[Address, ...]
    """Nodes to ask for the map first; any that answers will do."""
    node_url: str
    """As for one server, the first of them."""

    def __repr__(self) -> str:
        """Return the nodes: the URL may hold a password."""
        return f"<ClusterUrl {self.servers}>"


def split_url(location: str, scheme: str, label: str) -> ClusterUrl:
    """Split a URL whose ``scheme`` redis-py knows; raises ConfigError."""
    rest, mark, query = location.partition("://")[2].partition("?")
    authority, _, db = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    texts = hosts.split(",") if hosts else ()
    servers = tuple(host_and_port(text.strip(), PORT) for text in texts)
    form = (
        f"Write {scheme}{FORM}://user:password@host:{PORT},host2:{PORT}; marks such as "
        "@ : / ? # in a password must be percent-encoded."
    )
    is_clear = "@" not in user and is_told_from_login(location)
    if not servers or None in servers or not is_clear:
        # The parts themselves may be of a password.
        raise ConfigError(f"LOCATION {label!r} is not usable: it lacks nodes. {form}")
    if db.strip("/") not in {"", "0"}:
        raise ConfigError(
            f"LOCATION {label!r}: a cluster has database 0 alone. {form} Caches are "
            "told apart by KEY_PREFIX."
        )
    if len(set(servers)) < len(servers):
        raise ConfigError(f"LOCATION {label!r} names a node twice.")
    first = hosts.partition(",")[0].strip()
    return ClusterUrl(
        tuple(filter(None, servers)), f"{scheme}://{user}{at}{first}/0{mark}{query}"
    )
