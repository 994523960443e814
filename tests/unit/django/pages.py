"""Pages of the cached-page tests; each says whom it was made for."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_cookie

rendered: list[str] = []


def _who(request):
    user = request.COOKIES.get("user") or request.headers.get("Authorization")
    return user or "anonymous"


def _page(request):
    rendered.append(request.path)
    return HttpResponse(f"for {_who(request)}")


def _with_headers(**headers):
    @cache_page(60)
    def view(request):
        response = _page(request)
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return view


def _with_cookie(**headers):
    @cache_page(60)
    def view(request):
        response = _page(request)
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        response.set_cookie("secret", _who(request))
        return response

    return view


@cache_page(60)
def public(request):
    rendered.append(request.path)
    return HttpResponse("for all visitors")


class CookieForEach:
    """A middleware that adds the visitor's own cookie to whatever comes back."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response.set_cookie("seen", _who(request))
        response.headers["X-For"] = _who(request)
        return response


urlpatterns = [
    path("public", public),
    path("vary-cookie", cache_page(60)(vary_on_cookie(_page))),
    path("vary-star", _with_headers(Vary="*")),
    path("vary-star-among", _with_headers(Vary="Accept, *")),
    path("vary-star-spaced", _with_headers(Vary="Accept ,  * ")),
    path("vary-spaced", _with_headers(Vary="  Accept-Language ,\tCookie  ")),
    path("vary-upper", _with_headers(Vary="COOKIE")),
    path("private", _with_headers(Cache_Control="private")),
    path("private-upper", _with_headers(Cache_Control="Private")),
    path("private-shouted", _with_headers(Cache_Control="max-age=60, PRIVATE")),
    path("no-store-upper", _with_headers(Cache_Control="No-Store")),
    path("no-cache-upper", _with_headers(Cache_Control="No-Cache")),
    path("authorization", _with_headers()),
    path("authorization-max-age", _with_headers(Cache_Control="max-age=60")),
    path("set-cookie", _with_cookie(Vary="Cookie")),
    path("set-cookie-spaced", _with_cookie(Vary=" Accept , Cookie ")),
    path("set-cookie-upper", _with_cookie(Vary="COOKIE")),
]
