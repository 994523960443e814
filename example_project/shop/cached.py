"""Everything the shop keeps in the cache besides pages and template fragments.

The only module that knows the keys and the tags. But for tags the shop uses nothing but
Django's cache API, and calls it as if every call were cheap; with an in-process level
it is.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import cache
from django.views.decorators.cache import cache_page

from example_project.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = [
    "TIMEOUT",
    "aproduct",
    "aproduct_changed",
    "catalogue_version",
    "category_tag",
    "follow_the_models",
    "product",
    "product_changed",
    "product_tag",
    "products",
    "shelves_page",
]

TIMEOUT = 15 * 60
HAS_TAGS = settings.CACHE_BACKEND == settings.CACHEBRIDGE


def shelves_page(view: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a page that shows the shelves, until one of them is saved.

    On Django's own backends, which have no tags, it is kept for its time.
    """
    if not HAS_TAGS:
        return cache_page(TIMEOUT)(view)
    from cachebridge.contrib.django import cache_page as tagged  # noqa: PLC0415 above

    return tagged(TIMEOUT, tags=["shelves"])(view)


def follow_the_models() -> None:
    """Invalidate what shows a row when it is saved or deleted, wherever that is done.

    On Django's own backends nothing of it is: a page is kept for its time.
    """
    if not HAS_TAGS:
        return
    from cachebridge.contrib.django import invalidate_on_save  # noqa: PLC0415 the same

    invalidate_on_save(Category, tags=["shelves"])
    invalidate_on_save(
        Product,
        tags=lambda row: [product_tag(row.pk), category_tag(row.category.slug)],
        keys=lambda row: [_product_key(row.pk)],
        previous=True,  # it may have moved to another category
    )
    invalidate_on_save(Review, tags=lambda row: [product_tag(row.product_id)])


def product_tag(pk: int) -> str:
    """Name what shows this product, its details and reviews."""
    return f"product:{pk}"


def category_tag(slug: str) -> str:
    """Name what shows several products of the category."""
    return f"category:{slug}"


def product(pk: int) -> dict[str, Any]:
    """Return the product as templates need it. Raises Product.DoesNotExist."""
    return cache.get_or_set(_product_key(pk), partial(_load_product, pk), TIMEOUT)


def products(pks: Collection[int]) -> list[dict[str, Any]]:
    """Return the products that exist, in the given order, in one batch."""
    keys = {pk: _product_key(pk) for pk in pks}
    found = cache.get_many(keys.values())
    missing = [pk for pk, key in keys.items() if key not in found]
    if missing:
        rows = Product.objects.select_related("category").filter(pk__in=missing)
        loaded = {_product_key(row.pk): _as_dict(row) for row in rows}
        cache.set_many(loaded, TIMEOUT)
        found |= loaded
    return [found[key] for key in keys.values() if key in found]


def catalogue_version(slug: str) -> str:
    """Name the present state of a category; "" stands for the whole catalogue.

    Pages and fragments that show prices have it in their keys, so that one small
    write makes all of them unreachable, in every worker.
    """
    return cache.get_or_set(_version_key(slug), _new_version, TIMEOUT)


def product_changed(pk: int) -> None:
    """Show the product's new state everywhere. Call it after the commit."""
    # Set, not deleted: a reader that loaded the row before the commit would put the
    # old state back into the gap that a deletion leaves.
    cache.set_many(_changed_by(_load_product(pk)), TIMEOUT)


async def aproduct(pk: int) -> dict[str, Any]:
    """See ``product``; for asynchronous views."""
    return await cache.aget_or_set(
        _product_key(pk), partial(_aload_product, pk), TIMEOUT
    )


async def aproduct_changed(pk: int) -> None:
    """See ``product_changed``; for asynchronous views."""
    await cache.aset_many(_changed_by(await _aload_product(pk)), TIMEOUT)


def _changed_by(fresh: dict[str, Any]) -> dict[str, Any]:
    """Return all that a product's new state puts into the cache, in one batch."""
    version = _new_version()
    return {
        _product_key(fresh["id"]): fresh,
        _version_key(fresh["category_slug"]): version,
        _version_key(""): version,
    }


def _product_key(pk: int) -> str:
    return f"product:{pk}"


def _version_key(slug: str) -> str:
    return f"catalogue-version:{slug}"


def _new_version() -> str:
    return uuid.uuid4().hex


def _load_product(pk: int) -> dict[str, Any]:
    return _as_dict(Product.objects.select_related("category").get(pk=pk))


async def _aload_product(pk: int) -> dict[str, Any]:
    return _as_dict(await Product.objects.select_related("category").aget(pk=pk))


def _as_dict(row: Product) -> dict[str, Any]:
    """Flatten into a dict of plain values: small in Redis, cheap to hand out."""
    return {
        "id": row.pk,
        "sku": row.sku,
        "name": row.name,
        "description": row.description,
        "specs": tuple(tuple(pair) for pair in row.specs),
        "hue": row.hue,
        "price": row.price,
        "stock": row.stock,
        "updated_at": row.updated_at,
        "category_slug": row.category.slug,
        "category_name": row.category.name,
        "icon": row.category.icon,
        "loaded_at": time.time(),
    }
