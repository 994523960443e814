"""Adds to a list under a lock made of ``add``: ``... <kind> <location> <options>``.

Says "ready" when L1 is in use.  For each line, the name of a list, it adds
``ADDITIONS`` times and says "done".
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from cachebridge import Cache
from tests.sides import TaskFace

ADDITIONS = 30
LOCK, INNER = "lock", "inner-lock"
LOCK_S = 600


def plain(location: str, options: dict[str, Any]) -> Any:
    return Cache(location, **options)


def tasks(location: str, options: dict[str, Any]) -> Any:
    return TaskFace(Cache(location, **options))


def django(location: str, options: dict[str, Any]) -> Any:
    from django.conf import settings

    backend = "cachebridge.django_backend.CacheBridge"
    entry = {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}
    settings.configure(CACHES={"default": entry})
    from django.core.cache import cache

    return cache


def flask(location: str, options: dict[str, Any]) -> Any:
    from flask import Flask

    from cachebridge.flask_ext import Cache as FlaskCache

    app = Flask("locks")
    app.config.update(
        CACHE_TYPE="RedisCache", CACHE_REDIS_URL=location, CACHE_BRIDGE=options
    )
    cache = FlaskCache(app)
    app.app_context().push()
    return cache


def take(cache: Any, lock: str) -> None:
    while not cache.add(lock, os.getpid(), LOCK_S):
        time.sleep(0.0005)  # a poll: another process has the lock


def append(cache: Any, name: str, item: Any) -> None:
    items = cache.get(name) or []
    cache.set(name, [*items, item], LOCK_S)


def main() -> None:
    kind, location, options = sys.argv[1:]
    is_nested = kind == "nested"
    make = plain if is_nested else globals()[kind]
    cache = make(location, json.loads(options))
    while not cache.stats().trusted:
        cache.get("warm")
        time.sleep(0.01)
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        for number in range(ADDITIONS):
            take(cache, LOCK)
            append(cache, name, [os.getpid(), number])
            if is_nested:  # the inner lock is free: its ``add`` always wins
                take(cache, INNER)
                append(cache, name, [os.getpid(), -number - 1])
                cache.delete(INNER)
            cache.delete(LOCK)
        print("done", flush=True)


if __name__ == "__main__":
    main()
