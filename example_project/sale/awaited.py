"""The sale of an asynchronous process."""

from __future__ import annotations

from django.core.cache import cache

from example_project.sale.records import COUNTERS, AwaitedRows
from example_project.sale.selling import AwaitedSale

__all__ = ["sale"]

sale = AwaitedSale(cache, COUNTERS, AwaitedRows())
