"""A Django app: system checks and a health view.

Add ``"cachebridge.contrib.django"`` to INSTALLED_APPS for the checks, and
``path("health/cache/", include("cachebridge.contrib.django.urls"))`` for the view.
``docs/operations.md`` explains both.
"""
