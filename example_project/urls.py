"""The shop at the root; the sale, the admin, static files, the cache's health."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.shop.urls")),
    path("admin/", admin.site.urls),
    path("health/cache/", include("cachebridge.contrib.django.urls")),
    # A few small files; a real site has its web server for them.
    path("static/<path:path>", serve, {"insecure": True}),
]
if settings.HAS_TOOLBAR:
    urlpatterns += [path("__debug__/", include("debug_toolbar.urls"))]
if settings.HAS_SALE:
    urlpatterns += [path("sale/", include("example_project.sale.urls"))]
