"""A worker of a site that moves between django-redis and cachebridge, as a process.

``python -m tests.unit.django.site_worker old|new URL`` reads a job a line from standard
input, and answers each with a line of JSON.  The old one never imports cachebridge.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal

COMPRESSORS = {
    "none": None,
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
INCREMENTS = 20


def name_of(serializer, compressor):
    return f"{serializer}-{compressor}"


def entry_of(kind, url, serializer, compressor):
    """Return the entry of CACHES of a worker of this kind; the OPTIONS are the same."""
    path = f"django_redis.serializers.{serializer}.{SERIALIZERS[serializer]}"
    options = {"SERIALIZER": path}
    if used := COMPRESSORS[compressor]:
        options["COMPRESSOR"] = f"django_redis.compressors.{compressor}.{used}"
    backend = "django_redis.cache.RedisCache"
    if kind == "new":
        backend = "cachebridge.django_backend.CacheBridge"
        options |= {
            "WRITE_FORMAT": "django-redis",
            "COMPRESS_MIN_BYTES": 64,
            "L1_MAX_ENTRIES": 0,  # an old worker sends no message of what it writes
        }
    return {
        "BACKEND": backend,
        "LOCATION": url,
        "KEY_PREFIX": name_of(serializer, compressor),
        "OPTIONS": options,
    }


class Worker:
    """What one worker writes and reads in one cache."""

    def __init__(self, cache, values):
        self._cache = cache
        self._values = values

    def write(self, where):
        for name, value in self._values.items():
            self._cache.set(f"{where}:{name}", value, 300)
        items = {f"{where}:many:{name}": each for name, each in self._values.items()}
        self._cache.set_many(items)

    def read(self, where):
        """Return what is lost or read wrongly of what was written there."""
        keys = {f"{where}:{name}": name for name in self._values}
        keys |= {f"{where}:many:{name}": name for name in self._values}
        found = self._cache.get_many(keys)
        return [
            f"{key}: {value!r}"
            for key, name in keys.items()
            for value in (found.get(key, "lost"), self._cache.get(key, "lost"))
            if (type(value), value) != (type(self._values[name]), self._values[name])
        ]

    def write_and_read(self, where):
        """Do both, over and over, to keys that the other worker writes as well."""
        wrong = []
        for _ in range(3):
            self.write(where)
            wrong += self.read(where)
        return wrong

    def count(self, key):
        for _ in range(INCREMENTS):
            self._cache.incr(key)

    def get(self, key):
        return self._cache.get(key)

    def zero(self, key):
        self._cache.set(key, 0)

    def misses(self, _key):
        stats = self._cache.stats()
        return stats.misses + stats.undecodable


def main():
    kind, url = sys.argv[1:]
    import django
    from django.conf import settings
    from django.core.cache import caches

    entries = {
        name_of(serializer, compressor): entry_of(kind, url, serializer, compressor)
        for serializer in SERIALIZERS
        for compressor in COMPRESSORS
    }
    unused = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    settings.configure(CACHES=entries | unused)
    django.setup()
    for line in sys.stdin:
        serializer, compressor, job, argument = json.loads(line)
        cache = caches[name_of(serializer, compressor)]
        worker = Worker(cache, VALUES[serializer])
        try:
            answer = {"done": getattr(worker, job)(argument)}
        except Exception as exc:
            answer = {"error": repr(exc)}
        answer["ours"] = "cachebridge" in sys.modules
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
