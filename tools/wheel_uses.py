"""Uses an installed cachebridge with one of its extras; any warning is an error.

    python -I -W error wheel_uses.py EXTRA        "" is the package without extras

``tools/try_wheel.py`` runs it in fresh environments.  It needs no server.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import distribution


def plain():
    import cachebridge

    with cachebridge.Cache("memory://") as cache:
        cache.set("key", {"a": 1}, 60, tags=["tag"])
        assert cache.get("key") == {"a": 1}
        cache.invalidate_tags("tag")
        assert cache.get("key") is None
        assert cache.get_or_load("key", lambda: 7) == 7
    assert cachebridge.__version__ == distribution("cachebridge").version
    importlib.import_module("cachebridge.testing")


def with_options(**options):
    import cachebridge

    location = f"memory://{'-'.join(options)}"  # an engine of its own
    with cachebridge.Cache(location, l1_max_entries=0, **options) as cache:
        cache.set("key", ["value"] * 1000)
        assert cache.get("key") == ["value"] * 1000


def django():
    import django as package
    from django.conf import settings

    backend = "cachebridge.django_backend.CacheBridge"
    settings.configure(
        CACHES={"default": {"BACKEND": backend, "LOCATION": "memory://"}},
        INSTALLED_APPS=["cachebridge.contrib.django"],
        SECRET_KEY="of no worth",
    )
    package.setup()
    from django.core.cache import cache
    from django.core.management import call_command

    call_command("check")
    cache.set("key", 1)
    assert cache.get("key") == 1


def flask():
    from flask import Flask

    from cachebridge.flask_ext import Cache

    app = Flask("app")
    cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})

    @app.route("/")
    @cache.cached(60)
    def page():
        return "page"

    client = app.test_client()
    assert [client.get("/").text for _ in range(2)] == ["page"] * 2


def prometheus():
    from prometheus_client import generate_latest

    from cachebridge.contrib import prometheus

    exporter = prometheus.start()
    plain()
    exporter.stop()
    assert b"cachebridge" in generate_latest()


def otel():
    from cachebridge.contrib import opentelemetry

    opentelemetry.instrument()
    plain()
    opentelemetry.uninstrument()


def sentry():
    from cachebridge.contrib import sentry

    sentry.instrument()
    plain()
    sentry.uninstrument()


def embedded():
    from cachebridge import Cache
    from cachebridge.testing import redis_server

    with redis_server() as server, Cache(server.url) as cache:
        cache.set("key", 1)
        assert cache.get("key") == 1


def everything():
    for name, use in USES.items():
        if name not in {"", "all", "embedded"}:
            use()


USES = {
    "": plain,
    "django": django,
    "flask": flask,
    "hiredis": lambda: importlib.import_module("hiredis"),
    "memcached": lambda: importlib.import_module("cachebridge.l2.memcached.store"),
    "msgpack": lambda: with_options(serializer="msgpack"),
    "zstd": lambda: with_options(compressor="zstd"),
    "lz4": lambda: with_options(compressor="lz4"),
    "crypto": lambda: with_options(encryption_keys=["k" * 32]),
    "prometheus": prometheus,
    "otel": otel,
    "sentry": sentry,
    "embedded": embedded,
    "all": everything,
}

if __name__ == "__main__":
    extra = sys.argv[1] if len(sys.argv) > 1 else ""
    plain()
    USES[extra]()
