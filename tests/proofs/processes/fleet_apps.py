"""Three kinds of sites on one cache, for ``test_six_questions``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

URL = os.environ.get("CACHE_URL", "")
OPTIONS: dict[str, Any] = {"L1_TTL": float(os.environ.get("CACHE_L1_TTL", "60"))}


def plain_cache() -> Any:
    from cachebridge import Cache

    return Cache(URL, KEY_PREFIX="shop:", **OPTIONS)


def wsgi(environ, start_response):
    """``/get`` reads one page often, ``/delete`` deletes it."""
    cache = wsgi.__dict__.setdefault("cache", None) or plain_cache()
    wsgi.cache = cache
    act(cache, environ["PATH_INFO"])
    start_response("200 OK", [])
    return [f"{os.getpid()}".encode()]


def act(cache: Any, path: str) -> None:
    if path == "/delete":
        cache.delete("front")
        return
    for _ in range(50):
        if cache.get("front") is None:
            cache.set("front", "the page", 600)
    cache.get("menu")


async def asgi(scope, receive, send):
    """The same, awaited."""
    if scope["type"] != "http":
        return
    if not hasattr(asgi, "cache"):
        asgi.cache = plain_cache()
    if scope["path"] == "/delete":
        await asgi.cache.adelete("front")
    else:
        for _ in range(50):
            if await asgi.cache.aget("front") is None:
                await asgi.cache.aset("front", "the page", 600)
            await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{os.getpid()}".encode()})


def flask_site() -> Any:
    import flask

    from cachebridge.flask_ext import Cache

    app = flask.Flask("site")
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=URL,
        CACHE_KEY_PREFIX="shop:",
        CACHE_BRIDGE=OPTIONS,
    )
    cache = Cache(app)

    @app.get("/<path:path>")
    def page(path):
        act(cache, f"/{path}")
        return f"{os.getpid()}"

    return app
