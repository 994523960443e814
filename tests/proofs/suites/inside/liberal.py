"""The cache under test with Django's own mixin that accepts any key."""

from __future__ import annotations

from cache.liberal_backend import LiberalKeyValidationMixin
from django.utils.module_loading import import_string
from inside.plan import current


class RealCacheClass(LiberalKeyValidationMixin, import_string(current().backend)):
    """Overrides validate_key(), as Django documents for liberal backends."""


class CacheClass(LiberalKeyValidationMixin, import_string(current().serving)):
    """The same, or where writes are remote, what forwards them to it."""

    real = f"{__name__}.RealCacheClass"
