"""URLs that name sentinels instead of a server."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from cachebridge.errors import ConfigError
from cachebridge.texts import is_told_from_login

FORM: Final = "+sentinel"
PORT: Final = 26379
_PREFIX: Final = "sentinel_"
"""Query options of this prefix are for the connections to the sentinels."""
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:;@/?#\[\]]+)(?::(\d{1,5}))?")

Address = tuple[str, int]


class SentinelUrl(NamedTuple):
    """The parts of a URL such as ``redis+sentinel://user:pass@h1:26379,h2/name/0``."""

    label: str
    """The whole without its passwords."""
    servers: tuple[Address, ...]
    master: str
    master_url: str
    """As for one server; its host is not used."""
    arguments: dict[str, str]
    """For the connections to the sentinels."""

    def __repr__(self) -> str:
        """Return the label: the other parts hold passwords."""
        return f"<SentinelUrl {self.label}>"


def split_url(location: str, scheme: str, label: str) -> SentinelUrl:
    """Split a URL whose ``scheme`` redis-py knows; raises ConfigError."""
    rest, _, query = location.partition("://")[2].partition("?")
    authority, _, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    name, _, db = path.partition("/")
    texts = hosts.split(",") if hosts else ()
    servers = tuple(host_and_port(text.strip(), PORT) for text in texts)
    is_clear = "@" not in user + path and is_told_from_login(location)
    if not name or not servers or None in servers or not is_clear:
        # The parts themselves may be of a password.
        missing = "the name of the master" if servers and not name else "sentinels"
        raise ConfigError(
            f"LOCATION {label!r} is not usable: it lacks {missing}. Write "
            f"{scheme}{FORM}://user:password@host:{PORT},host2:{PORT}/name/0; user and "
            "password are the master's, and marks such as @ : / ? # in them must be "
            f"percent-encoded. Those of the sentinels are {_PREFIX}username and "
            f"{_PREFIX}password, behind a '?' or in SENTINEL_KWARGS."
        )
    if len(set(servers)) < len(servers):
        raise ConfigError(f"LOCATION {label!r} names a sentinel twice.")
    arguments, others = {}, []
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option.startswith(_PREFIX):
            arguments[option.removeprefix(_PREFIX)] = value
        else:
            others.append((option, value))
    asked = f"?{urlencode(others)}" if others else ""
    return SentinelUrl(
        label=label,
        servers=tuple(filter(None, servers)),
        master=unquote(name),
        master_url=f"{scheme}://{user}{at}master/{db}{asked}",
        arguments=arguments,
    )


def host_and_port(text: str, default: int) -> Address | None:
    """Read a host, and its port if there is one; None for any other text."""
    found = _SERVER.fullmatch(text)
    if found is None:
        return None
    port = int(found[2] or default)
    return (found[1].strip("[]"), port) if 0 < port < 65536 else None  # noqa: PLR2004


def as_hosts(name: str, sentinels: Any) -> str:
    """Return the part of a URL for sentinels given as a list of (host, port).

    ``name`` is that of the setting, for errors.
    """
    if not isinstance(sentinels, (list, tuple)) or not sentinels:
        raise ConfigError(f"{name} must be a list of (host, port), and not empty.")
    hosts = []
    for number, each in enumerate(sentinels):
        is_pair = isinstance(each, (list, tuple)) and len(each) == 2  # noqa: PLR2004
        host = str(each[0]) if is_pair else ""
        shown = f"[{host}]" if ":" in host else host
        if not is_pair or host_and_port(f"{shown}:{each[1]}".strip(), PORT) is None:
            # Without the value: it may be a URL with a password.
            raise ConfigError(f"{name}[{number}] is not (host, port).")
        hosts.append(f"{shown}:{each[1]}")
    return ",".join(hosts)
