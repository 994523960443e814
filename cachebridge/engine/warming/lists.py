"""The lists of keys that workers keep in L2 for those that come later.

A list is JSON: pairs of a prefix and the keys that it makes full, the best first.  It
has names of keys and no values.
"""

from __future__ import annotations

import json
import socket
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Run = tuple[str, list[str]]
"""A prefix, and keys without it."""

MOST_KEYS: Final = 20_000
MOST_BYTES: Final = 512 * 1024
"""Memcached takes no value of more than a mebibyte."""
KEPT_MS: Final = 15 * 60 * 1000
"""A list outlives its last writer so long."""
ANY_HOST: Final = "any"
"""The name of the newest list of all hosts, for a host that has none."""
ORDERED: Final = "ordered"
"""The name of the list that an operator has ordered."""


def name_of_host() -> str:
    """Return the name of this host's list."""
    host = socket.gethostname().encode("utf-8", "surrogateescape")
    return blake2b(host, digest_size=8).hexdigest()


def encode_list(runs: Sequence[Run]) -> bytes:
    """Return the bytes of a list, without its last keys if it is too long."""
    while len(raw := json.dumps(runs, separators=(",", ":")).encode()) > MOST_BYTES:
        runs = first_keys(runs, sum(len(keys) for _, keys in runs) // 2)
    return raw


def first_keys(runs: Sequence[Run], count: int) -> list[Run]:
    """Return so many keys from the beginning of a list."""
    kept: list[Run] = []
    for prefix, keys in runs:
        if count <= 0:
            break
        kept.append((prefix, keys[:count]))
        count -= len(keys)
    return kept


def decode_list(raw: bytes | None) -> list[Run]:
    """Undo ``encode_list``; what is no list is an empty one."""
    if raw is None or len(raw) > MOST_BYTES:
        return []
    try:
        return [_run(*pair) for pair in json.loads(raw)]
    except (ValueError, TypeError, RecursionError):
        return []


def _run(prefix: Any, keys: Any) -> Run:
    if not isinstance(prefix, str) or not isinstance(keys, list):
        raise TypeError("not a prefix and its keys")
    if not all(isinstance(key, str) for key in keys):
        raise TypeError("a key is a text")
    return prefix, keys
