"""A Django app: system checks, a health view, and invalidation by signals.

Add ``"cachebridge.contrib.django"`` to INSTALLED_APPS for the checks, and
``path("health/cache/", include("cachebridge.contrib.django.urls"))`` for the view.
``docs/operations.md`` explains both, ``docs/transactions.md`` ``invalidate_on_save``.
"""

from __future__ import annotations

from cachebridge.contrib.django.invalidation import invalidate_on_save

__all__ = ["invalidate_on_save"]
