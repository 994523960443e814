"""Slots of a cluster: which one a name is in, which master has it, what has moved.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NamedTuple

from redis.crc import key_slot

from cachebridge.resp import pack, wrong_kind

SLOTS: Final = 16384

MOST_MASTERS: Final = 1000
"""More than there are in any cluster; each needs a thread."""
MOST_PORT: Final = 65535
MOST_LABEL: Final = 63
"""Characters between the dots of a host; a longer one raises no OSError."""

Address = tuple[str, int]
_HOST: Final = re.compile(r"[0-9A-Za-z._:%-]{1,255}").fullmatch

slot_of = key_slot
"""Returns the slot of a name."""


@cache
def tags() -> tuple[bytes, ...]:
    """Return a short hash tag for each slot; takes 30 ms once."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < SLOTS:
        tag = b"%x" % number
        found.setdefault(key_slot(tag), tag)
        number += 1
    return tuple(found[slot] for slot in range(SLOTS))


def address_of(host: str, port: int) -> Address | None:
    """Return an address that a node has named; None if it cannot be one.

    The host is empty if it is that of the node itself.
    """
    if host == "?":
        host = ""
    longest = max(map(len, host.split(".")))
    if not 0 < port <= MOST_PORT or longest > MOST_LABEL or ".." in host:
        return None
    return (host, port) if not host or _HOST(host) else None


# -- the map -----------------------------------------------------------------------

ASK_FOR_MAP: Final = pack(b"CLUSTER", b"INFO") + pack(b"CLUSTER", b"SLOTS")
"""Two commands; ``read_map`` reads the replies."""
_EPOCH: Final = re.compile(rb"cluster_current_epoch:(\d{1,20})\s")
_STATE: Final = re.compile(rb"cluster_state:ok\s")


class SlotMap(NamedTuple):
    """Which masters have which slots, as one node sees it."""

    epoch: int
    """Grows with each failover; a node that was cut off has an old one."""
    is_whole: bool
    """Whether the node says that the cluster works."""
    ranges: dict[Address, tuple[tuple[int, int], ...]]
    """First and last slots of each master."""


def read_map(replies: list[Any], asked: Address) -> SlotMap:
    """Read the replies to ``ASK_FOR_MAP``; raises an error among them.

    A node that does not know its own host is meant by the address ``asked``.
    """
    about, rows = replies
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    if not isinstance(about, bytes) or not isinstance(rows, list):
        raise wrong_kind(replies)
    ranges: dict[Address, list[tuple[int, int]]] = {}
    for row in rows:
        match row:
            case [int(first), int(last), [bytes() | None as host, int(port), *_], *_]:
                address = address_of((host or b"").decode(errors="replace"), port)
            case _:
                raise wrong_kind(row)
        if address is None or not 0 <= first <= last < SLOTS:
            raise wrong_kind(row)
        ranges.setdefault((address[0] or asked[0], port), []).append((first, last))
    if len(ranges) > MOST_MASTERS:
        raise wrong_kind(rows)
    epoch = _EPOCH.search(about)
    return SlotMap(
        int(epoch[1]) if epoch else 0,
        _STATE.search(about) is not None,
        {address: tuple(sorted(ranges[address])) for address in sorted(ranges)},
    )


# -- replies that redirect ---------------------------------------------------------

_REDIRECTS: Final = re.compile(r"(MOVED|ASK) (\d{1,5}) (.*):(\d{1,5})\b|(TRYAGAIN)\b")
UNSERVED: Final = ("CLUSTERDOWN Hash slot not served", "TRYAGAIN")
"""What is said of one slot; the node itself works."""


class Redirect(NamedTuple):
    """A reply that says: another node has this slot, or not yet the whole of it."""

    kind: str
    """``MOVED``: ask there from now on.  ``ASK``: only this time.  ``TRYAGAIN``: soon,
    the master of the map."""
    slot: int = 0
    address: Address = ("", 0)


def read_redirect(failure: Exception) -> Redirect | None:
    """Read an error reply that redirects; None for any other."""
    found = _REDIRECTS.match(str(failure))
    if found is None:
        return None
    if found[5]:
        return Redirect(found[5])
    slot, address = int(found[2]), address_of(found[3], int(found[4]))
    if address is None or slot >= SLOTS:
        return None
    return Redirect(found[1], slot, address)
