"""A Django app: system checks, a health view, pages to purge, invalidation by signals.

Add ``"cachebridge.contrib.django"`` to INSTALLED_APPS for the checks, and
``path("health/cache/", include("cachebridge.contrib.django.urls"))`` for the view.
``docs/operations.md`` explains both, ``docs/pages.md`` and ``docs/transactions.md`` the
functions.
"""

from __future__ import annotations

from cachebridge.contrib.django.invalidation import invalidate_on_save
from cachebridge.contrib.django.pages import cache_page
from cachebridge.contrib.django.purging import apurge, apurge_view, purge, purge_view

__all__ = [
    "apurge",
    "apurge_view",
    "cache_page",
    "invalidate_on_save",
    "purge",
    "purge_view",
]
