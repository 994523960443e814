"""Flask: ``from cachebridge.flask_ext import Cache`` in the place of Flask-Caching's.

``CacheBridgeBackend`` is the same cache with cachelib's interface, for Flask-Caching's
``CACHE_TYPE`` and for Flask-Session.
"""

from __future__ import annotations

from cachebridge.flask_ext.backend.backend import CacheBridgeBackend
from cachebridge.flask_ext.extension import Cache
from cachebridge.flask_ext.http.responses import CachedResponse
from cachebridge.flask_ext.jinja import make_template_fragment_key
from cachebridge.flask_ext.page import dashboard
from cachebridge.flask_ext.signals import (
    cache_memoize_hit,
    cache_memoize_miss,
    cache_view_hit,
    cache_view_miss,
)
from cachebridge.identity.naming import function_namespace

__all__ = [
    "Cache",
    "CacheBridgeBackend",
    "CachedResponse",
    "cache_memoize_hit",
    "cache_memoize_miss",
    "cache_view_hit",
    "cache_view_miss",
    "dashboard",
    "function_namespace",
    "make_template_fragment_key",
]
