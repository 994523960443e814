"""django-cachalot's own test settings, with two SQLite databases and two caches.

Two of each, since several of its tests need a second one to compare with.
"""

from __future__ import annotations

from inside.substitute import LOCMEM, substitution
from settings import *  # noqa: F403 - settings are all their names

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "second": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
CACHES = substitution.caches(
    {
        "default": {"BACKEND": LOCMEM},
        "second": {"BACKEND": LOCMEM, "LOCATION": "second"},
    }
)
