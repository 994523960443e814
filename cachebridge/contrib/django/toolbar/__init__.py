"""A panel for django-debug-toolbar, 6 or newer: each call of a cache in a request.

``docs/debug-toolbar.md`` explains it.
"""

from __future__ import annotations

from cachebridge.contrib.django.toolbar.panel import CacheBridgePanel

__all__ = ["CacheBridgePanel"]
