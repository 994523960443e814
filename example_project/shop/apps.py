"""The shop as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "example_project.shop"

    def ready(self) -> None:
        """Let the pages follow the models, wherever their rows are saved."""
        from example_project.shop import cached  # noqa: PLC0415 it needs the models

        cached.follow_the_models()
