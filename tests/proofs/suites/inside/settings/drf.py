"""What Django REST framework's conftest.py configures, for its throttling tests."""

from __future__ import annotations

from inside.substitute import LOCMEM, substitution

DEBUG_PROPAGATE_EXCEPTIONS = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
SITE_ID = 1
SECRET_KEY = "not very secret in tests"
USE_I18N = True
STATIC_URL = "/static/"
# Two models of theirs claim one reverse name; pytest, which they use, does not check.
SILENCED_SYSTEM_CHECKS = ["fields.E304", "fields.E305"]
ROOT_URLCONF = "tests.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "secondary": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
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
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "tests.authentication",
    "tests.generic_relations",
    "tests.importable",
    "tests",
]
CACHES = substitution.caches({"default": {"BACKEND": LOCMEM}})
