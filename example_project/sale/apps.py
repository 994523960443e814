"""The sale as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class SaleConfig(AppConfig):
    name = "example_project.sale"
