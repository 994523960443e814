"""Values of its own for each test, in the caches of Django."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKEND: Final = "cachebridge.django_backend.CacheBridge"
NOT_IN_MEMORY: Final = frozenset(
    {"BUS_LOCATION", "REPLICAS", "SENTINELS", "SENTINEL_KWARGS", "CONNECTION_FACTORY"}
)
"""OPTIONS that ``memory://`` refuses."""
_numbers = count(1)


def worker_of(config: pytest.Config) -> int:
    """Return the number of the xdist worker, 0 without xdist."""
    name = getattr(config, "workerinput", {}).get("workerid", "gw0")
    return int(name.removeprefix("gw"))


def new_location() -> str:
    """Return a LOCATION on ``memory://`` that is used for the first time."""
    return f"memory://test-{os.getpid()}-{next(_numbers)}"


@contextmanager
def isolated(
    mode: str, *, with_l1: bool, worker: int, databases: str
) -> Iterator[None]:
    """Give the entries of CACHES that are cachebridge's values of their own."""
    try:
        from django.conf import settings  # noqa: PLC0415 not every user has it
        from django.test import override_settings  # noqa: PLC0415
    except ImportError:
        yield
        return
    if not settings.configured:
        yield
        return
    ours = [
        alias
        for alias, entry in settings.CACHES.items()
        if entry.get("BACKEND") == BACKEND
    ]
    change = _changes(mode, worker, databases)
    entries: dict[str, Any] = dict(settings.CACHES)
    for alias in ours:
        options = dict(entries[alias].get("OPTIONS") or {})
        if not with_l1:
            options["L1_MAX_ENTRIES"] = 0
        entries[alias] = {**entries[alias], "OPTIONS": options}
        change(entries[alias], alias)
    with override_settings(CACHES=entries):
        if mode == "db":
            _clear(ours)
        try:
            yield
        finally:
            if mode != "memory":
                _clear(ours)


def _changes(
    mode: str, worker: int, databases: str
) -> Callable[[dict[str, Any], str], None]:
    """Return what changes a copy of an alias's entry as the mode wants it."""
    location = new_location()
    mark = f"test-{secrets.token_hex(4)}-{next(_numbers)}:"
    number = _database(databases, worker) if mode == "db" else 0

    def change(entry: dict[str, Any], alias: str) -> None:
        if mode == "memory":
            for name in NOT_IN_MEMORY & entry["OPTIONS"].keys():
                del entry["OPTIONS"][name]
            entry["LOCATION"] = location
        elif mode == "prefix":
            entry["KEY_PREFIX"] = mark + str(entry.get("KEY_PREFIX", ""))
        else:
            entry["OPTIONS"]["CLEAR_FLUSHES_DB"] = True
            entry["LOCATION"] = _with_database(entry.get("LOCATION"), number, alias)

    return change


def _clear(aliases: list[str]) -> None:
    from django.core.cache import caches  # noqa: PLC0415

    for alias in aliases:
        caches[alias].clear()


def _database(databases: str, worker: int) -> int:
    """Return the worker's database of a range as "8-15"."""
    found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", databases)
    if found is None:
        pytest.fail(
            "cachebridge_isolate = db empties databases: name them, as in "
            f"cachebridge_databases = 8-15 (it is {databases!r})",
            pytrace=False,
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if first + worker > last:
        pytest.fail(
            f"cachebridge_databases = {databases} are too few for xdist's worker "
            f"{worker}: each needs one",
            pytrace=False,
        )
    return first + worker


def _with_database(location: object, number: int, alias: str) -> str:
    url = urlsplit(location) if isinstance(location, str) else None
    if url is None or url.scheme not in {"redis", "rediss"} or "," in url.netloc:
        pytest.fail(
            f"cachebridge_isolate = db needs one redis:// URL, and the LOCATION of "
            f"CACHES[{alias!r}] is none; use memory or prefix",
            pytrace=False,
        )
    return urlunsplit(url._replace(path=f"/{number}"))
