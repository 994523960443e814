"""The shop as a Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings

from cachebridge.contrib.django import invalidate_on_save


class ShopConfig(AppConfig):
    name = "example_project.shop"

    def ready(self) -> None:
        """Let the home page follow the categories, wherever they are saved."""
        if settings.CACHE_BACKEND == settings.CACHEBRIDGE:
            invalidate_on_save(self.get_model("Category"), tags=["shelves"])
