from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("health/cache/", include("cachebridge.contrib.django.urls"))]
