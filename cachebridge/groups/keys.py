"""From the name of a group and the text of an argument to a key.

No two arguments of a group have one key, and no two groups have one: a name holds no
colon.  Keys are printable ASCII without spaces, and short, as Memcached and Django want
them: spaces are quoted as in a URL, and a long or unprintable text becomes its SHA-256.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final

from cachebridge.core.keys import named
from cachebridge.core.ttl import SHOWN
from cachebridge.errors import UncacheableError
from cachebridge.identity.values import PLAIN, stable_text_of

MARK: Final = "group:"
"""How the keys of all groups begin, after the cache's own prefix."""
LONGEST_NAME: Final = 120

_is_name = re.compile(rf"[!-9;-~]{{1,{LONGEST_NAME}}}").fullmatch
_is_clean = re.compile(r"[!-~]{1,100}").fullmatch


def checked_name(name: Any, wanted_by: str) -> str:
    """Return a group's name; TypeError or ValueError for one that cannot be one."""
    if not isinstance(name, str):
        raise TypeError(
            f"{wanted_by}: the name must be a str, not {type(name).__name__}: {name!r}"
        )
    if _is_name(name) is None:
        raise ValueError(
            f"{wanted_by}: the name must be 1 to {LONGEST_NAME} printable ASCII "
            f"characters without spaces and colons, not {name[:SHOWN]!r}"
        )
    return str(name)


def key_of(name: str, text: str) -> str:
    """Return the key of an argument with this text."""
    if " " in text or "%" in text:
        text = text.replace("%", "%25").replace(" ", "%20")
    if _is_clean(text) is None:
        raw = text.encode("utf-8", "surrogatepass")
        text = f"#{sha256(raw).hexdigest()}"
    return f"{MARK}{name}:{text}"


def text_of_argument(name: str, argument: Any) -> str:
    """Return the text of an argument, the same in every process.

    Raises UncacheableError, which names the group, if nothing tells it from others.
    """
    if type(argument) in PLAIN:
        return repr(argument)
    try:
        return stable_text_of(argument)
    except UncacheableError as exc:
        raise named(exc, f"group {name!r}")  # noqa: B904 the same exception
