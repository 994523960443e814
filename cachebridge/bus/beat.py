"""A heartbeat of the bus: what it asks, and what replicas make of its way."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachebridge.resp import pack

if TYPE_CHECKING:
    from cachebridge.bus.settings import Channels

NONCE_BYTES: Final = 16
MARK_TTL_S: Final = 60.0
"""How long the mark of a process that has ended remains, at least."""


@dataclass(slots=True)
class Beat:
    """A heartbeat that is under way."""

    link: Any
    sent_at: float
    since: float
    """When the first heartbeat was sent of those that have not come back."""
    nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_BYTES))
    mark: bytes = field(default_factory=lambda: os.urandom(8).hex().encode())
    replies: list[Any] | None = None
    """None while they have not been read."""

    def packed(
        self, channels: Channels, private: bytes, trust_s: float, *, at_replica: bool
    ) -> bytes:
        """Return the request: MGET first, whose reply is older than the echo.

        It has four replies, and one more if the subscription is at a replica.
        """
        mark_key = channels.mark_key.encode()
        lasts_ms = int(1000 * max(MARK_TTL_S, 4 * trust_s))
        return (
            pack(
                b"MGET",
                channels.server_id_key.encode(),
                channels.switch_key.encode(),
            )
            + pack(b"MGET", mark_key)
            + pack(b"SET", mark_key, self.mark, b"PX", b"%d" % lasts_ms)
            + pack(b"PUBLISH", private, self.nonce)
            + (pack(b"INFO", b"stats") if at_replica else b"")
        )


class Snapshots:
    """Whether replicas were given snapshots of the primary while a session lasts.

    A replica that was has data whose messages were never sent, while its subscribers
    stay connected.
    """

    def __init__(self) -> None:
        self._known: bytes | None = None

    def require_none(self, stats: list[Any]) -> None:
        """Raise ConnectionError if the primary has given one since it was asked last.

        ``stats`` is what INFO says behind a heartbeat: so none that was sent after a
        snapshot comes back unnoticed.
        """
        for text in stats:
            found = re.search(rb"sync_full:(\d+)", text)
            count = found[1] if found else b""
            if self._known not in (None, count):
                raise ConnectionError("a replica was given a snapshot of the primary")
            self._known = count


def run_id_of(info: Any) -> str:
    """Return the id of a run from what INFO says; empty if it is an error."""
    found = (
        re.search(rb"^run_id:(\w+)", info, re.MULTILINE)
        if (isinstance(info, bytes))
        else None
    )
    return found[1].decode() if found else ""
