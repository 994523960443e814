"""The four signals, sent only with ``CACHE_ENABLE_SIGNALS``.

Receivers get the ``Cache`` as ``cache``, the key as ``cache_key``, and the call's
``args`` and ``kwargs``; those of ``memoize`` also the function as ``f``.
"""

from __future__ import annotations

from typing import Final

from blinker import Namespace

_namespace: Final = Namespace()

cache_view_hit = _namespace.signal("cache-view-hit")
"""A function under ``cached`` was answered without running."""
cache_view_miss = _namespace.signal("cache-view-miss")
"""A function under ``cached`` is about to run."""
cache_memoize_hit = _namespace.signal("cache-memoize-hit")
"""A function under ``memoize`` was answered without running."""
cache_memoize_miss = _namespace.signal("cache-memoize-miss")
"""A function under ``memoize`` is about to run."""
