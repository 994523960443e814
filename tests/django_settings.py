"""The least Django the tests need; conftest.py puts the real server's address in."""

from __future__ import annotations

import os

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.sessions",
    "cachebridge.contrib.django",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

CACHES = {
    "default": {
        "BACKEND": "cachebridge.django_backend.CacheBridge",
        # No server answers at port 1: a test that forgot its fixture fails instead of
        # writing to a server that happens to run here.
        "LOCATION": os.environ.get("CACHEBRIDGE_TEST_REDIS", "redis://127.0.0.1:1/0"),
    },
}

DEBUG_TOOLBAR_PANELS = [  # for the tests that install the toolbar
    "debug_toolbar.panels.cache.CachePanel",
    "cachebridge.contrib.django.toolbar.CacheBridgePanel",
]
