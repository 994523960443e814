"""What ``incr`` and ``append`` make of a value, where the store cannot add to it."""

from __future__ import annotations

from typing import Any, Final

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import named, shown_key
from cachebridge.errors import MissingKeyError

MOST_APPENDED: Final = 1_000_000
"""Characters or bytes of a value that ``append`` makes; Memcached's items have room."""


def missing(key: str) -> MissingKeyError:
    """Return the exception for a key that does not exist."""
    return MissingKeyError(f"Key {shown_key(key)} not found")


def total(key: str, value: Any, delta: Any) -> Any:
    """Return the sum; TypeError, with the key, unless both are numbers."""
    try:
        return value + delta
    except TypeError as exc:
        wrong = "delta for" if isinstance(value, (int, float)) else "value of"
        raise named(exc, f"the {wrong} {shown_key(key)} is no number") from None


def appended(key: str, value: Any, data: str | bytes) -> str | bytes:
    """Return the value, MISSING for none, with ``data`` at its end.

    Raises TypeError, with the key, unless both are str or both are bytes, and
    ValueError if the whole would be too long.
    """
    kind: type[str | bytes] = str if isinstance(data, str) else bytes
    if not isinstance(data, kind):
        raise TypeError(f"data must be a str or bytes, not {type(data).__name__}")
    if value is MISSING:
        value = kind()
    if not isinstance(value, kind):
        raise TypeError(
            f"the value of {shown_key(key)} is a {type(value).__name__}: a "
            f"{kind.__name__} can be appended to a {kind.__name__} only"
        )
    length = len(value) + len(data)
    if length > MOST_APPENDED:
        raise ValueError(
            f"the value of {shown_key(key)} would have a length of {length:,}: append "
            f"makes none above {MOST_APPENDED:,}"
        )
    whole: str | bytes = kind().join((value, data))  # type: ignore[arg-type]
    return whole
