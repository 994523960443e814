"""The tables of docs/other-backends.md, made from those that decide.

``python -m tools.settings_tables --write`` replaces them; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cachebridge.counterparts.cluster_settings import CLUSTER_CLIENT
from cachebridge.counterparts.memcached_settings import (
    BEHAVIORS,
    CACHELIB_MEMCACHED,
    PYMEMCACHE,
)
from cachebridge.counterparts.redis_settings import (
    BESIDE_OPTIONS,
    CACHELIB_REDIS,
    DJANGO_REDIS,
    DJANGO_SETTINGS,
    REDIS_PY,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cachebridge.counterparts.fates import Fate

PAGE = Path(__file__).parents[1] / "docs" / "other-backends.md"
TABLES: dict[str, Mapping[str, Fate]] = {
    "django-redis": DJANGO_REDIS,
    "settings": DJANGO_SETTINGS,
    "redis-py": {
        name: fate
        for name, fate in REDIS_PY.items()
        if CLUSTER_CLIENT.get(name) is not fate
    },
    "RedisCluster": CLUSTER_CLIENT,
    "beside OPTIONS": BESIDE_OPTIONS,
    "pymemcache": PYMEMCACHE,
    "behaviors": BEHAVIORS,
    "CACHE_OPTIONS": {
        name: fate
        for name, fate in CACHELIB_REDIS.items()
        if REDIS_PY.get(name) is not fate
    },
    "cachelib": CACHELIB_MEMCACHED,
}
"""By the names of their marks on the page."""


def table(rows: Mapping[str, Fate]) -> str:
    """Return a table in which settings with one meaning share a line."""
    names: dict[str, list[str]] = {}
    for name, fate in rows.items():
        names.setdefault(str(fate), []).append(f"`{name}`")
    lines = [f"| {', '.join(each)} | {says} |" for says, each in names.items()]
    return "\n".join(("| theirs | here |", "|---|---|", *lines))


def _parts(text: str) -> Iterator[str]:
    """Yield the page with its tables made anew."""
    for name, rows in TABLES.items():
        begin = f"<!-- {name}: begin; python -m tools.settings_tables --write -->\n"
        before, found, rest = text.partition(begin)
        _, end, text = rest.partition("<!-- end -->")
        if not (found and end):
            raise SystemExit(f"{PAGE.name} has no marks for the table {name!r}")
        yield f"{before}{begin}\n{table(rows)}\n\n{end}"
    yield text


def renewed(text: str) -> str:
    """Return the page as it should be."""
    return "".join(_parts(text))


if __name__ == "__main__":
    current = PAGE.read_text(encoding="utf-8")
    if "--write" in sys.argv:
        PAGE.write_text(renewed(current), encoding="utf-8")
    elif renewed(current) != current:
        raise SystemExit(f"{PAGE.name} is out of date: --write")
