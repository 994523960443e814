"""Which responses a shared cache may store: the rules of RFC 9111, as one function.

It knows no framework and does no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIRECTIVE: Final = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,;"]*))?"""
)
_FIRST_FINAL: Final = 200
_PARTIAL: Final = frozenset({206, 304})
"""Not a whole response: for caches that understand ranges, or revalidate."""
_CHALLENGES: Final = frozenset({401, 407})
"""Meant for a client without credentials, wrong for one with them."""
_SHAREABLE: Final = frozenset({"public", "must-revalidate", "s-maxage"})
"""Each allows storing the response to a request with Authorization (section 3.5)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the rules look at in a request and the response to it.

    A header field that is repeated is one field here, joined by commas.
    """

    method: str = "GET"
    has_authorization: bool = False
    request_cache_control: str = ""
    status: int = 200
    cache_control: str = ""
    vary: str = ""
    sets_cookie: bool = False
    own_key: bool = field(default=False, kw_only=True)
    """Whether the application makes the key, which may contain method and headers."""


def directives_of(cache_control: str) -> Mapping[str, str]:
    """Return the directives of a Cache-Control field, names in lower case."""
    return {
        name.lower(): argument.strip('"')
        for name, argument in _DIRECTIVE.findall(cache_control)
    }


def reason_not_to_store(exchange: Exchange) -> str | None:
    """Return why a shared cache must not store the response; None if it may.

    The caller decides how long to store it; of the response's own lifetimes only those
    of 0 seconds count.
    """
    said = directives_of(exchange.cache_control)
    return (
        _reason_in_request(exchange, said)
        or _reason_in_status(exchange.status, said)
        or _reason_in_cache_control(said)
        or _reason_in_other_fields(exchange)
    )


def _reason_in_request(exchange: Exchange, said: Mapping[str, str]) -> str | None:
    if exchange.method != "GET" and not exchange.own_key:
        return f"the method is {exchange.method}"
    if "no-store" in directives_of(exchange.request_cache_control):
        return "the request says no-store"
    if exchange.has_authorization and _SHAREABLE.isdisjoint(said):
        return "the request has Authorization and the response is not public"
    return None


def _reason_in_status(status: int, said: Mapping[str, str]) -> str | None:
    if status in _PARTIAL or status < _FIRST_FINAL:
        return f"status {status} is not a whole response"
    if status in _CHALLENGES and "public" not in said:
        return f"status {status} is for clients without credentials"
    return None


def _reason_in_cache_control(said: Mapping[str, str]) -> str | None:
    if "no-store" in said and "must-understand" not in said:
        return "the response says no-store"
    for directive in ("private", "no-cache"):
        if directive in said:
            return f"the response says {directive}"
    if said.get("s-maxage", said.get("max-age")) == "0":
        return "the response is stale from the beginning"
    return None


def _reason_in_other_fields(exchange: Exchange) -> str | None:
    if exchange.sets_cookie:
        return "the response sets a cookie"
    varying = [name.strip() for name in exchange.vary.split(",") if name.strip()]
    if "*" in varying:
        return "the response varies on everything"
    if varying and not exchange.own_key:
        return f"the response varies on {', '.join(varying)}, which are not in the key"
    return None
