"""Settings for django-ratelimit's tests; its distribution has only the tests."""

from __future__ import annotations

from inside.plan import current
from inside.substitute import LOCMEM, substitution

SECRET_KEY = "ratelimit"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["django_ratelimit"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
# "not officially supported": the list of supported backends is closed.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001"]

# A cache that is configured like ours, but no server answers at its address.
UNREACHABLE = {"BACKEND": current().serving, "LOCATION": "redis://127.0.0.1:1/0"}

CACHES = substitution.caches(
    {
        "default": {"BACKEND": LOCMEM, "LOCATION": "ratelimit-tests"},
        "connection-errors": UNREACHABLE,
        "connection-errors-redis": UNREACHABLE,
        "instant-expiration": {
            "BACKEND": "django.core.cache.backends.dummy.DummyCache",
        },
    }
)
