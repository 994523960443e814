"""Answers of other processes, read without relying on any type in them."""

from __future__ import annotations

import math
from typing import Any

from cachebridge.texts import shown

Known = dict[str, Any]


def name_of(who: Known) -> str:
    """Return the host and pid of who has answered."""
    return f"{text(who, 'host')}/{text(who, 'pid')}"


def part(known: Known, name: str) -> Known:
    """Return a part of an answer; empty if it is none."""
    found = known.get(name)
    return found if isinstance(found, dict) else {}


def parts(known: Known, name: str) -> list[Known]:
    """Return the parts of an answer that are in a list."""
    return [each for each in _list(known, name) if isinstance(each, dict)]


def text(known: Known, name: str, most: int = 300) -> str:
    """Return a text of an answer, in one line and bounded."""
    value = known.get(name)
    return "" if value is None else shown(str(value), most)


def number(known: Known, name: str) -> float:
    """Return a number of an answer; 0 if it is none."""
    return maybe(known, name) or 0


def maybe(known: Known, name: str) -> float | None:
    """Return the same; None if it is none."""
    return _number(known.get(name))


def numbers(known: Known, name: str) -> list[float]:
    """Return the numbers of a list; 0 for each that is none."""
    return [_number(each) or 0 for each in _list(known, name)]


def _list(known: Known, name: str) -> list[Any]:
    found = known.get(name)
    return found if isinstance(found, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None
