"""``cache[key]`` and ``del cache[key]``, over ``get`` and ``delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import not_found

if TYPE_CHECKING:
    from collections.abc import Callable


class Subscripts:
    """Base of the caches that are used like dictionaries; they cannot be iterated."""

    get: Callable[..., Any]
    delete: Callable[..., bool]

    def __getitem__(self, key: Any) -> Any:
        """Return the value.  Raises EntryNotFoundError, a KeyError."""
        value = self.get(key, MISSING)
        if value is MISSING:
            raise not_found(key)
        return value

    def __delitem__(self, key: Any) -> None:
        """Delete the key.  Raises EntryNotFoundError, a KeyError, if there is none."""
        if not self.delete(key):
            raise not_found(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Raise TypeError, unless the cache has one TTL for all values."""
        way = (
            "use set(key, value, ttl)" if hasattr(self, "set") else "values are loaded"
        )
        raise TypeError(f"{type(self).__name__} takes no cache[key] = value: {way}")

    __iter__ = None
    """Without it Python would ask for ``cache[0]``."""
