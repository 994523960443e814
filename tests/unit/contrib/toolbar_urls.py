from __future__ import annotations

from debug_toolbar.toolbar import debug_toolbar_urls
from django.core.cache import cache, caches
from django.http import HttpResponse
from django.urls import path

PAGE = "<html><body>a page</body></html>"


def calls(_request):
    cache.set("found", "a secret value")
    cache.get("found")
    cache.get("nowhere", "a default")
    cache.get_many(["found", "nowhere"])
    cache.get_or_set("made", lambda: cache.get("found"))
    cache.delete("made")
    caches["local"].get("not-ours")
    return HttpResponse(PAGE)


async def awaited(_request):
    await cache.aset("found", "a secret value")
    await cache.aget("found")
    await cache.aget("nowhere")

    async def load():
        return 1

    await cache.aget_or_load("made", load)
    await cache.adelete("made")
    return HttpResponse(PAGE)


def nothing(_request):
    return HttpResponse(PAGE)


def grouped(_request):
    cache.group("doubles", lambda number: 2 * number).get(4)
    return HttpResponse(PAGE)


def fails(_request):
    cache.get("found")
    raise LookupError("as views do")


urlpatterns = [
    path("calls/", calls),
    path("awaited/", awaited),
    path("nothing/", nothing),
    path("grouped/", grouped),
    path("fails/", fails),
    *debug_toolbar_urls(),
]
