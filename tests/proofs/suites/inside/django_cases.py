"""Django's test classes that need a concrete class for the cache under test."""

from __future__ import annotations

from cache import tests as cache_tests
from django.test import TestCase, override_settings
from inside.substitute import LOCMEM, substitution
from sessions_tests import tests as session_tests

# Culling is LocMem's; Django's own RedisCache leaves these two out as well.
WITHOUT_CULLING = {"cull", "zero_cull"}


@override_settings(
    CACHES=substitution.caches(
        cache_tests.caches_setting_for_tests(
            base={"BACKEND": LOCMEM}, exclude=WITHOUT_CULLING
        )
    )
)
class BackendTests(cache_tests.BaseCacheTests, TestCase):
    """Everything Django asks of each of its own backends."""


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache")
class CacheSessionMiddlewareTests(session_tests.SessionMiddlewareTests):
    """The session middleware over sessions that are only in the cache."""


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cached_db")
class CacheDBSessionMiddlewareTests(session_tests.SessionMiddlewareTests):
    """The session middleware over sessions in the cache and the database."""
