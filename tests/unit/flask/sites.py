"""The same small site in Flask and in Django, over one Redis, for gunicorn.

``/get/k``, ``/set/k/v``, ``/delete/k``, ``/clear`` and ``/trusted``; ``/page`` is kept
by the Flask site alone, under a key that Django can delete.  A call that timed out
would answer None, which is no older value: these caches wait.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tests.rig import PATIENT_SETTINGS

URL = os.environ.get("CACHEBRIDGE_TEST_URL", "")


def act(cache: Any, action: str, arguments: list[str]) -> Any:
    """Do what a path asks of a cache."""
    if action == "get":
        return cache.get(arguments[0])
    if action == "set":
        return cache.set(arguments[0], int(arguments[1]), 600)
    if action == "delete":
        return cache.delete(arguments[0])
    if action == "clear":
        return cache.clear()
    cache.get("unknown")
    return cache.stats().trusted


def flask_site() -> Any:
    import flask

    from cachebridge.flask_ext import Cache

    app = flask.Flask("site")
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=URL,
        CACHE_KEY_PREFIX=":1:",
        CACHE_BRIDGE=PATIENT_SETTINGS,
    )
    cache = Cache(app)

    @app.get("/page")
    @cache.cached(600, key_prefix="page")
    def page():
        return json.dumps(cache.cache.inc("pages"))

    @cache.memoize(600)
    def computed(name):
        time.sleep(0.2)  # the others come meanwhile; who comes later finds the value
        return cache.cache.inc(f"runs of {name}")

    @app.get("/memoized/<name>")
    def memoized(name):
        return json.dumps(computed(name))

    @app.get("/cold/<name>")
    @cache.cached(600)
    def cold(name):
        return json.dumps(computed.uncached(name))

    @app.get("/<path:path>")
    def any_path(path):
        action, *arguments = path.split("/")
        return json.dumps(act(cache, action, arguments))

    @app.after_request
    def sign(response):
        response.headers["X-Pid"] = str(os.getpid())
        return response

    return app


def django_site() -> Any:
    import django
    from django.conf import settings
    from django.core.cache import cache
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import re_path

    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        CACHES={
            "default": {
                "BACKEND": "cachebridge.django_backend.CacheBridge",
                "LOCATION": URL,
                "OPTIONS": {"CLEAR_FLUSHES_DB": False, **PATIENT_SETTINGS},
            }
        },
    )
    django.setup()

    def view(request):
        action, *arguments = request.path.strip("/").split("/")
        response = HttpResponse(json.dumps(act(cache, action, arguments)))
        response["X-Pid"] = os.getpid()
        return response

    urlpatterns.append(re_path("", view))
    return WSGIHandler()


urlpatterns: list[Any] = []
