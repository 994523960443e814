"""Caches of the Django tests: real settings, real server, one database each."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches

from tests.sides import SIDES
from tests.unit.django.support import LOCMEM, TaskSide, entry, trusted


@pytest.fixture
def set_caches(settings):
    """Return a function that puts entries into CACHES until the test's end."""

    def put(**entries: dict[str, Any]) -> None:
        settings.CACHES = {"default": {"BACKEND": LOCMEM}, **entries}

    return put


@pytest.fixture
def bridge(set_caches, place):
    """Return a function that makes the one cache of a test, with L1 at work."""

    def make(**params: Any):
        set_caches(default=entry(place, **params))
        return trusted(caches["default"])

    return make


@pytest.fixture
def cache(bridge):
    """Return a cache with default settings, with L1 at work."""
    return bridge()


@pytest.fixture(params=SIDES)
def make_lock(request, cache):
    """Return a function that makes a lock as threads or as tasks use it."""

    def make(key="lock", **how):
        if request.param == "threads":
            return cache.lock(key, **how)
        return TaskSide(cache.alock(key, thread_local=False, **how))

    return make
