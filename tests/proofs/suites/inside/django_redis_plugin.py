"""A pytest plugin beside the tests of django-redis: our backend by the name of theirs.

It has the fixtures of their conftest, with servers of the run's own.
"""

from __future__ import annotations

import json
import os
import sys
import types
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import django
import pytest
from django.conf import settings as django_settings

PLAN = json.loads(Path(os.environ["CACHEBRIDGE_SUITE_PLAN"]).read_text())
SERVER = PLAN["location"]
NOWHERE = "redis://127.0.0.1:1/1"


def entry(location: str, **params: Any) -> dict[str, Any]:
    """Return an entry of CACHES as theirs, with options of django-redis."""
    options = {"CLIENT_CLASS": "django_redis.client.DefaultClient"}
    backend = "django_redis.cache.RedisCache"
    return {"BACKEND": backend, "LOCATION": location, "OPTIONS": options, **params}


django_settings.configure(
    SECRET_KEY="django_tests_secret_key",
    CACHES={
        "default": entry(f"{SERVER}/1"),
        "doesnotexist": entry(NOWHERE),
        "sample": entry(f"{SERVER}/1"),
        "with_prefix": entry(f"{SERVER}/1", KEY_PREFIX="test-prefix"),
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    USE_TZ=False,
)
django.setup()
sys.modules.setdefault("msgpack", types.ModuleType("msgpack"))  # imported, never used

import django.test.signals  # noqa: E402 a change of CACHES makes them anew
import django_redis.cache  # noqa: E402
from django.core.cache import cache as default_cache  # noqa: E402
from settings_wrapper import SettingsWrapper  # noqa: E402

from cachebridge.django_backend import CacheBridge  # noqa: E402


class Substitute(CacheBridge):
    """Ours, with the private names by which their tests tell clients apart."""

    _serializer = None

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        """``default``, which their tests give as a location, is this run's server."""
        super().__init__(SERVER if server == "default" else server, params)

    @staticmethod
    def _has_compression_enabled() -> bool:
        return False

    @property
    def _ignore_exceptions(self) -> bool:
        return self._binding.options.on_error == "degrade"


django_redis.cache.RedisCache = Substitute


# -- the fixtures of their conftest, and of pytest-mock ------------------------------


@pytest.fixture
def settings():
    wrapper = SettingsWrapper()
    yield wrapper
    wrapper.finalize()


@pytest.fixture
def cache():
    yield default_cache
    default_cache.clear()


@pytest.fixture
def mocker():
    with ExitStack() as patched:

        def patch(*args: Any) -> Any:
            return patched.enter_context(mock.patch.object(*args))

        yield types.SimpleNamespace(patch=types.SimpleNamespace(object=partial(patch)))
