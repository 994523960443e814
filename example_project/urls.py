"""The shop at the root; beside it its two static files, and the health of its cache."""

from __future__ import annotations

from django.urls import include, path
from django.views.static import serve

from example_project.settings import BASE_DIR

urlpatterns = [
    path("", include("example_project.shop.urls")),
    path("health/cache/", include("cachebridge.contrib.django.urls")),
    # One style sheet and one file of icons; a real site has its web server for them.
    path("static/<path:path>", serve, {"document_root": BASE_DIR / "shop" / "static"}),
]
