"""What the engine expects of a shared store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_AN_INTEGER: Final = "not an integer"
"""Answer of ``incr`` when the stored value is not a 64-bit integer or would not be."""

Read = tuple[bytes | None, int]
"""Raw value (None if absent) and PTTL in milliseconds: -1 no expiry, -2 gone."""


class L2Store(Protocol):
    """A shared store.  Thread safe.

    Each changing call is one atomic action of the server together with the publication
    of ``message``; None publishes nothing.  TTLs are milliseconds, None is without
    expiry.  Every method raises L2Error if the store cannot answer.
    """

    def get(self, key: str) -> Read:
        """Read one key."""

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys in one round trip, in order; not one snapshot."""

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: int | None,
        message: bytes | None,
    ) -> None:
        """Set all items."""

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist; tell whether it was set."""

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL; tell whether it exists."""

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys and publish even if none existed; return how many did."""

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
        """Add to an integer and keep its TTL; None if absent, else NOT_AN_INTEGER."""

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Set (None: delete) the key, keeping its TTL, if it still is ``expected``."""

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Return the next cursor (0 at the end) and some keys matching the glob."""

    def flush_db(self, message: bytes) -> None:
        """Delete every key of the database."""

    def publish(self, message: bytes) -> None:
        """Publish a message that goes with no change."""

    def ping(self) -> None:
        """Return if the store answers."""

    def close(self) -> None:
        """Close idle connections; the store opens new ones when used again."""

    def forget(self) -> None:
        """Drop every connection without touching the sockets: the child of a fork."""
