"""What checks L1_SHARED: a size, a directory, or both."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from cachebridge.bounds import MEBIBYTE
from cachebridge.errors import ConfigError

DEFAULT_BYTES: Final = 64 * MEBIBYTE
LEAST_BYTES: Final = MEBIBYTE
MOST_BYTES: Final = 64 * 1024 * MEBIBYTE
_UNITS: Final = {"M": MEBIBYTE, "G": 1024 * MEBIBYTE}
_parts_of = re.compile(r"(?:(\d+)([MG]))?\s*(/.*)?", re.DOTALL).fullmatch


class SharedL1(NamedTuple):
    """What L1_SHARED says."""

    size: int
    """Bytes of the file."""
    directory: str
    """Where it is; empty for the usual place."""


def shared_l1(name: str, value: Any) -> SharedL1 | None:
    """Check the option: None is off, "64M" a size, "/run/shop" a directory, or both."""
    if value is None or isinstance(value, SharedL1):
        return value
    parts = _parts_of(value.strip()) if isinstance(value, str) else None
    if parts is None or not any(parts.groups()):
        raise ConfigError(
            f"{name} must be None, a size as '64M' or '1G', the absolute path of a "
            f"directory, or both as '64M /run/shop', not {value!r}."
        )
    number, unit, directory = parts.groups()
    size = int(number) * _UNITS[unit] if number else DEFAULT_BYTES
    if not LEAST_BYTES <= size <= MOST_BYTES:
        raise ConfigError(f"{name} must be a size from 1M to 64G, not {value!r}.")
    return SharedL1(size, directory or "")
