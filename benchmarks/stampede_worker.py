"""A process of the stampede: `python -m benchmarks.stampede_worker CONTENDER URL`.

Reads lines of `KEY THREADS START` (seconds of the wall clock), lets so many threads ask
for the key at that moment, and prints how long the slowest waited. Every run of the
loader is counted in Redis, beside the caches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis

from benchmarks import contenders
from benchmarks.contenders import DJANGO_REDIS, OURS, database

LOADER_S = 0.05
VALUE = {"report": list(range(100))}
FLASK_CACHING = "Flask-Caching"
DOGPILE = "dogpile.cache"

# Return the value of a key, loading it if need be.
Ask = Callable[[str], object]


def counter_of(key: str) -> str:
    """Name the key under which the loader's runs are counted."""
    return f"calls:{key}"


def make_loader(url: str, key: str) -> Callable[[], object]:
    """Return what takes its time to make the value."""
    client = redis.Redis.from_url(database(url, 15))

    def load() -> object:
        client.incr(counter_of(key))
        time.sleep(LOADER_S)
        return VALUE

    return load


def ours(url: str) -> Ask:
    """cachebridge, as Django users have it."""
    contenders.configure(url)
    cache = contenders.held()[OURS]
    contenders.await_trust(cache)
    return lambda key: cache.get_or_set(key, make_loader(url, key))


def django_redis(url: str) -> Ask:
    """django-redis, by the same API."""
    contenders.configure(url)
    cache = contenders.held()[DJANGO_REDIS]
    return lambda key: cache.get_or_set(key, make_loader(url, key))


def flask_caching(url: str) -> Ask:
    """Flask-Caching on Redis: a memoized function."""
    from flask import Flask
    from flask_caching import Cache

    app = Flask(__name__)
    settings = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": database(url, 4)}
    cache = Cache(app, config=settings)

    @cache.memoize()
    def report(key: str) -> object:
        return make_loader(url, key)()

    def ask(key: str) -> object:
        with app.app_context():
            return report(key)

    return ask


def dogpile(url: str) -> Ask:
    """dogpile.cache on Redis, with its distributed lock."""
    from dogpile.cache import make_region

    arguments = {
        "url": database(url, 5),
        "distributed_lock": True,
        "thread_local_lock": False,
    }
    region = make_region().configure("dogpile.cache.redis", arguments=arguments)
    return lambda key: region.get_or_create(key, make_loader(url, key))


CONTENDERS = {
    OURS: ours,
    DJANGO_REDIS: django_redis,
    FLASK_CACHING: flask_caching,
    DOGPILE: dogpile,
}


def main() -> None:
    """Serve stampedes until standard input ends."""
    contender, url = sys.argv[1:]
    ask = CONTENDERS[contender](url)
    ask("warm")
    print("ready", flush=True)
    for line in sys.stdin:
        key, threads, start = line.split()

        def run(_number: int, key: str = key, start: float = float(start)) -> float:
            time.sleep(max(0.0, start - time.time()))
            began = time.perf_counter()
            if ask(key) != VALUE:
                raise AssertionError(f"{contender} gave another value")
            return time.perf_counter() - began

        with ThreadPoolExecutor(int(threads)) as pool:
            slowest_s = max(pool.map(run, range(int(threads))))
        print(slowest_s, flush=True)


if __name__ == "__main__":
    main()
