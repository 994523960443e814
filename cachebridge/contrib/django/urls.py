"""URL patterns to include: all aliases, one alias, and the process alone."""

from __future__ import annotations

from django.urls import path

from cachebridge.contrib.django import views

app_name = "cachebridge"

urlpatterns = [
    path("", views.health, name="health"),
    path("live/", views.live, name="live"),
    path("<str:alias>/", views.health, name="health-alias"),
]
