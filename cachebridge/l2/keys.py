"""Keys as bytes, for every server alike."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


encode_key: Final[Callable[[str], bytes]] = methodcaller(
    "encode", "utf-8", "surrogatepass"
)
"""Returns the bytes of a key; lone surrogates survive the round trip."""


def decode_key(raw: bytes) -> str:
    """Undo ``encode_key``; bytes of other writers never raise."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
