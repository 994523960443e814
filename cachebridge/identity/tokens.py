"""Names for living objects; a name is never used twice, as an address is."""

from __future__ import annotations

import threading
import uuid
import weakref
from typing import Any, Final

IDENTITY_MARK: Final = "token-"
"""How every token begins."""

_lock: Final = threading.Lock()
_known: Final[dict[int, tuple[weakref.ref[Any], str]]] = {}


def token_of(value: Any) -> str:
    """Return the object's token; TypeError if it cannot be weakly referenced.

    Thread safe.
    """
    address = id(value)
    known = _known.get(address)
    if known is not None and known[0]() is value:
        return known[1]
    reference = weakref.ref(value, lambda dead: _forget(address, dead))
    with _lock:
        known = _known.get(address)
        if known is None or known[0]() is not value:
            known = _known[address] = reference, IDENTITY_MARK + uuid.uuid4().hex
    return known[1]


def has_token(text: str) -> bool:
    """Return whether the token of a living object is part of the text."""
    return any(token in text for _, token in list(_known.values()))


def _forget(address: int, dead: weakref.ref[Any]) -> None:
    # Without the lock: this thread may hold it when the object dies.
    known = _known.get(address)
    if known is not None and known[0] is dead:
        _known.pop(address, None)
