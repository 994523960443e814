"""A Django project of one cached page, for gunicorn; the backend comes by environment.

CACHE_CONTENDER names the contender; without it the page is made anew every time.
"""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page

from benchmarks.contenders import django_caches

_PAGE = ("<li class='item'>An entry of a list</li>\n" * 600)[: 20 * 1024]
_CONTENDER = os.environ.get("CACHE_CONTENDER")


def page(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(_PAGE)


def l1_hit_ratio(_request: HttpRequest) -> HttpResponse:
    """Return what this worker's L1 answered; for cachebridge only."""
    return HttpResponse(str(cache.stats().l1_hit_ratio))


if not settings.configured:
    options: dict[str, object] = {}
    if _CONTENDER:
        options["CACHES"] = {
            "default": django_caches(os.environ["REDIS_URL"])[_CONTENDER]
        }
    settings.configure(
        ALLOWED_HOSTS=["*"],
        # The least that a project has; it also adds Content-Length.
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="benchmarks",
        USE_TZ=True,
        **options,
    )
    django.setup()

urlpatterns = [
    path("", cache_page(600)(page) if _CONTENDER else page),
    path("l1-hit-ratio/", l1_hit_ratio),
]
application = WSGIHandler()
