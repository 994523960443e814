"""A site on django-redis moves over and back, with workers of both kinds running."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
import redis
from django.core.cache import caches

from cachebridge.codec.compression import compressor_of
from tests.unit.django.support import entry

COMPRESSORS = {
    None: None,
    "identity": "IdentityCompressor",
    "zlib": "ZlibCompressor",
    "gzip": "GzipCompressor",
    "lzma": "LzmaCompressor",
    "zstd": "ZStdCompressor",
    "lz4": "Lz4Compressor",
}
SERIALIZERS = {
    "pickle": "PickleSerializer",
    "json": "JSONSerializer",
    "msgpack": "MSGPackSerializer",
}
PLAIN = {
    "int": 7,
    "negative": -(2**63),
    "float": 1.5,
    "small-float": 5e-200,
    "true": True,
    "none": None,
    "text": "a\u00e9\U0001f600" * 300,
    "digits": "123",
    "short": "x",
    "empty": "",
    "rows": [{"id": 7, "name": "Blue shirt", "price": 19.5}] * 30,
}
VALUES = {
    "pickle": {
        **PLAIN,
        "larger": 2**70,
        "bytes": b"\x78\x9c" * 50,
        "tuple": (1, "a"),
        "set": {1, 2},
        "decimal": Decimal("1.10"),
    },
    "json": PLAIN,
    "msgpack": {**PLAIN, "bytes": b"\x28\xb5\x2f\xfd" * 20},
}


@pytest.fixture(params=SERIALIZERS)
def serializer(request):
    return request.param


@pytest.fixture(params=COMPRESSORS)
def compressor(request):
    return request.param


@pytest.fixture
def aliases(set_caches, redis_url, serializer, compressor):
    """Put both workers' caches into CACHES: two entries with the same OPTIONS."""
    theirs = {
        "SERIALIZER": f"django_redis.serializers.{serializer}.{SERIALIZERS[serializer]}"
    }
    if compressor:
        path = f"django_redis.compressors.{compressor}.{COMPRESSORS[compressor]}"
        theirs["COMPRESSOR"] = path
    ours = {
        **theirs,
        "WRITE_FORMAT": "django-redis",
        "COMPRESS_MIN_BYTES": 64,
        "L1_MAX_ENTRIES": 0,  # an old worker sends no message of what it writes
    }
    old = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": redis_url,
        "OPTIONS": theirs,
    }
    set_caches(old=old, new=entry(redis_url, OPTIONS=ours))
    return ("old", "new")


class Site:
    """What the workers of the site write and read, and what of it goes wrong."""

    def __init__(self, values):
        self.values = values
        self.wrong = []
        self.hits = 0

    def run(self, *workers):
        """Let workers of these aliases run at the same time, each in its thread."""
        meet = threading.Barrier(len(workers))
        threads = [
            threading.Thread(target=self._work, args=(alias, workers, meet))
            for alias in workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, alias, workers, meet):
        try:
            cache = caches[alias]  # Django makes one for each thread
            self._read(cache, alias, ["all"])
            meet.wait(30)
            self._write(cache, alias)
            meet.wait(30)
            self._read(cache, alias, workers)
            meet.wait(30)
            if alias == workers[0]:
                self._write(cache, "all")
                cache.set("all:hits", 0)
                self.hits = 0
            meet.wait(30)
            for _ in range(10):
                cache.incr("all:hits")
        except Exception as exc:
            self.wrong.append((alias, repr(exc)))
            meet.abort()
        else:
            meet.wait(30)
            if cache.get("all:hits") != 10 * len(workers):
                self.wrong.append((alias, "lost increments"))

    def _write(self, cache, where):
        for name, value in self.values.items():
            cache.set(f"{where}:{name}", value, 300)
        cache.set_many({f"{where}:many:{n}": v for n, v in self.values.items()})

    def _read(self, cache, alias, writers):
        for writer in writers:
            keys = {f"{writer}:{name}": name for name in self.values}
            keys |= {f"{writer}:many:{name}": name for name in self.values}
            found = cache.get_many(keys)
            for key, name in keys.items():
                wanted = self.values[name]
                for value in (found.get(key, "lost"), cache.get(key, "lost")):
                    if (type(value), value) != (type(wanted), wanted):
                        self.wrong.append((alias, key, value))


@pytest.mark.usefixtures("aliases")
def test_over_and_back(redis_url, serializer, compressor):
    """No value is lost, none is read wrongly, and no worker raises."""
    site = Site(VALUES[serializer])
    site._write(caches["old"], "all")
    for workers in [("old",), ("old", "new"), ("new",), ("new", "old"), ("old",)]:
        site.run(*workers)
        assert site.wrong == [], workers
    stats = caches["new"].stats()
    assert stats.undecodable == stats.misses == 0
    with redis.Redis.from_url(redis_url) as client:
        for writer in ("old", "new"):
            raw = client.get(f":1:{writer}:text")
            used = compressor_of(raw)
            expected = None if compressor in {None, "identity"} else compressor
            assert (used and used.name) == expected


@pytest.mark.parametrize(
    ("serializer", "value"), [("json", "\ud800"), ("msgpack", {"a": {1: "b"}})]
)
@pytest.mark.parametrize("compressor", [None])
def test_what_an_old_worker_could_not_read(aliases, serializer, value):
    """It is written so that it can, or refused like there."""
    new, old = caches["new"], caches["old"]
    if serializer == "json":
        new.set("k", value)
        assert old.get("k") == value
    else:
        with pytest.raises(TypeError):
            new.set("k", value)
        assert old.get("k") is None
    assert aliases
