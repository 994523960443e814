"""django-debug-toolbar's own test settings."""

from __future__ import annotations

from inside.substitute import substitution

from tests.settings import *  # noqa: F403 - settings are all their names
from tests.settings import CACHES

CACHES = substitution.caches(CACHES)
