"""Django settings of the shop.

``CACHES`` is all that cachebridge asks of a Django project. The environment variables
let the demo run this same shop on another cache.
"""

from __future__ import annotations

from os import environ
from pathlib import Path

env = environ.get

BASE_DIR = Path(__file__).resolve().parent
VAR_DIR = BASE_DIR / "var"
VAR_DIR.mkdir(exist_ok=True)

REDIS_URL = env("SHOP_REDIS_URL", "redis://127.0.0.1:6379/0")
MEMCACHED_URL = env("SHOP_MEMCACHED_URL", "")
"""With one, values are there, and Redis carries nothing but the messages."""
STORE_URL = env("SHOP_STORE_URL", MEMCACHED_URL)
"""The same for any other store, such as that of ``sqlite_driver/``."""

CACHEBRIDGE = "cachebridge.django_backend.CacheBridge"
CACHE_BACKEND = env("SHOP_CACHE_BACKEND", CACHEBRIDGE)
HAS_SALE = CACHE_BACKEND == CACHEBRIDGE
"""The flash sale needs counters, which Django's own backends do not have."""

CACHES = {"default": {"BACKEND": CACHE_BACKEND, "LOCATION": STORE_URL or REDIS_URL}}
if HAS_SALE:
    # A worker that takes the place of another begins with its keys in L1.
    OPTIONS = CACHES["default"]["OPTIONS"] = {"L1_WARM": True}
    if STORE_URL:
        OPTIONS["BUS_LOCATION"] = REDIS_URL
    # The same cache, for the sale: while Redis is away its counters do not say
    # "no", they raise, so that a buyer is told to try again.
    CACHES["counters"] = CACHES["default"] | {
        "OPTIONS": OPTIONS | {"ON_ERROR": "raise"},
    }

SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

# A shop on the loopback interface, for looking at: nothing here is worth a secret.
SECRET_KEY = env("SHOP_SECRET_KEY", "only-for-the-example-shop")
DEBUG = False
SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # no HSTS
    "security.W008",  # no redirect to TLS
    "security.W009",  # the key above
    "security.W012",  # cookies without TLS
    "security.W016",
]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

# Clients that send this token may change prices; if it is empty, none may.
SHOP_STAFF_TOKEN = env("SHOP_STAFF_TOKEN", "")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Checks for `manage.py check --deploy`, the views of health in urls.py, and the
    # admin's page "Caches".
    "cachebridge.contrib.django",
    "example_project.shop",
    "example_project.sale",
]

MIDDLEWARE = [
    # First, so that it sees whole answers, those of cache_page included.
    "example_project.shop.served_by.ServedByMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

HAS_TOOLBAR = bool(env("SHOP_TOOLBAR", ""))
"""With it each page shows its calls of the cache: docs/debug-toolbar.md."""
if HAS_TOOLBAR:
    INSTALLED_APPS.append("debug_toolbar")
    MIDDLEWARE.insert(1, "debug_toolbar.middleware.DebugToolbarMiddleware")
    DEBUG_TOOLBAR_PANELS = [
        "debug_toolbar.panels.timer.TimerPanel",
        "debug_toolbar.panels.sql.SQLPanel",
        "cachebridge.contrib.django.toolbar.CacheBridgePanel",
    ]
    DEBUG_TOOLBAR_CONFIG = {
        "RENDER_PANELS": True,  # the worker that is asked later may be another
        "SHOW_TOOLBAR_CALLBACK": lambda _request: True,
    }

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": env("SHOP_DATABASE", VAR_DIR / "shop.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
STATIC_URL = "/static/"
