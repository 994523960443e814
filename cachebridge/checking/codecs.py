"""The checks of options that say how values become bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.checking.checks import choice
from cachebridge.checking.extras import MissingExtraError, module_of
from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from cachebridge.checking.checks import Check

COMPRESSORS: Final = ("zlib", "zstd", "lz4", "gzip", "lzma")
LEAST_SECRET_BYTES: Final = 32
LEAST_TO_COMPRESS: Final = 32
"""Bytes: no integer of 64 bits has as many digits, and Redis must go on to count."""
_NEED_EXTRA: Final = frozenset({"msgpack", "zstd", "lz4", "lzma"})


def choice_of_extras(*valid: str) -> Check[str]:
    """Make the check of a choice of which some need a package."""
    chosen = choice(*valid)

    def check(name: str, value: Any) -> str:
        found = chosen(name, value)
        if found in _NEED_EXTRA:
            require_extra(found, f"{name} = {found!r}")
        return found

    return check


def require_extra(extra: str, what: str) -> None:
    """Raise ConfigError unless the package of an extra is installed."""
    try:
        module_of(extra)
    except MissingExtraError as exc:
        raise ConfigError(f"{what}: {exc}.") from None


def secrets(name: str, value: Any) -> tuple[bytes, ...]:
    """Check an option that is a list of keys; no text shows one."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(
            f"{name} must be a list of keys, not {type(value).__name__}: the first "
            "writes, all of them read."
        )
    found: list[bytes] = []
    for number, each in enumerate(value):
        if not isinstance(each, (str, bytes)):
            kind = type(each).__name__
            raise ConfigError(
                f"{name} must be a list of str or bytes: [{number}] is of type {kind}."
            )
        secret = each.encode() if isinstance(each, str) else each
        if len(secret) < LEAST_SECRET_BYTES:
            raise ConfigError(
                f"{name} must be a list of keys of at least {LEAST_SECRET_BYTES} "
                f"bytes: [{number}] has {len(secret)}. Python's "
                f"secrets.token_urlsafe({LEAST_SECRET_BYTES}) makes one."
            )
        if secret in found:
            raise ConfigError(
                f"{name} must be a list of different keys: [{number}] is the same as "
                f"[{found.index(secret)}]."
            )
        found.append(secret)
    return tuple(found)
