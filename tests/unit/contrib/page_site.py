"""Pages of the purge tests; each is numbered in the order of their making."""

from __future__ import annotations

from itertools import count

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.urls import include, path
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.vary import vary_on_cookie, vary_on_headers

import cachebridge
from cachebridge.contrib.django import cache_page

numbers = count(1)
during = []
"""What views call while they run."""


def page(request, *parts):
    if during:
        during.pop()()
    return HttpResponse(" ".join(map(str, (*parts, next(numbers)))))


@cache_page(60, tags=lambda _request, pk: [f"product:{pk}"])
@vary_on_cookie
def product(request, pk):
    return page(request, "product", pk)


@cache_page(60)
def where(request):
    return page(
        request, translation.get_language(), timezone.get_current_timezone_name()
    )


@cache_page(60, tags=["catalogue"])
@vary_on_headers("Accept")
def catalogue(request, slug=""):
    cachebridge.tag(f"category:{slug}")
    return page(request, "catalogue", slug, request.GET.urlencode())


class Terms(View):
    def get(self, request):
        return page(request, "terms")


@method_decorator(cache_page(60), name="dispatch")
class Imprint(View):
    def get(self, request):
        return page(request, "imprint")


class Numbered(TemplateResponse):
    """Stands for one with a template."""

    @property
    def rendered_content(self):
        return f"template {next(numbers)}"


@cache_page(60)
def template(request):
    return Numbered(request, "any.html")


class InZone:
    """A middleware that takes language and time zone from the request."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        language = request.headers.get("X-Language", "en")
        zone = request.headers.get("X-Zone", "UTC")
        with translation.override(language), timezone.override(zone):
            return self.get_response(request)


shop = [
    path("product/<int:pk>/", product, name="product"),
    path("catalogue/", catalogue, name="catalogue"),
    path("catalogue/<slug:slug>/", catalogue, name="category"),
    path("terms/", cache_page(60)(Terms.as_view()), name="terms"),
    path("imprint/", Imprint.as_view(), name="imprint"),
]
urlpatterns = [
    path("shop/", include((shop, "shop"))),
    path("where/", where, name="where"),
    path("template/", template),
]
