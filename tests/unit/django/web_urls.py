"""The pages of ``web_worker``."""

from __future__ import annotations

from django.contrib.auth import get_user_model, login, logout
from django.http import HttpResponse
from django.urls import path


def log_in(request):
    login(request, get_user_model().objects.get(username="alice"))
    return HttpResponse("in")


def log_out(request):
    logout(request)
    return HttpResponse("out")


def who_am_i(request):
    return HttpResponse(request.user.get_username() or "anonymous")


def add_to_cart(request):
    cart = request.session.get("cart", [])
    request.session["cart"] = [*cart, len(cart)]
    return HttpResponse(str(len(cart) + 1))


def throttled(request):
    from rest_framework.decorators import api_view, throttle_classes
    from rest_framework.response import Response
    from rest_framework.throttling import AnonRateThrottle

    class TenPerMinute(AnonRateThrottle):
        rate = "10/min"

    @api_view(["GET"])
    @throttle_classes([TenPerMinute])
    def view(request):
        return Response("served")

    return view(request)


urlpatterns = [
    path("login", log_in),
    path("logout", log_out),
    path("who", who_am_i),
    path("cart", add_to_cart),
    path("throttled", throttled),
]
