"""The app: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig

from cachebridge.contrib.django.checks import register_checks


class CacheBridgeConfig(AppConfig):
    """Named in INSTALLED_APPS as ``cachebridge.contrib.django``."""

    name = "cachebridge.contrib.django"
    label = "cachebridge"
    verbose_name = "cachebridge"

    def ready(self) -> None:
        """Register the checks; no server is asked yet."""
        register_checks()
