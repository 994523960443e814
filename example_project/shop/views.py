"""The pages of the shop.

Each shows one way of caching: a whole page with a tag (home), a whole page that a write
makes outdated (catalogue), fragments and data (product), nothing but data (cart).
"""

from __future__ import annotations

import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from django import forms
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Avg, Count
from django.http import Http404, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_page, never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from example_project.shop import cached, plots, statistics
from example_project.shop.cart import MOST, Cart
from example_project.shop.models import Category, Product, Review
from example_project.shop.served_by import MADE_AT
from example_project.shop.staff import is_staff

if TYPE_CHECKING:
    from django.http import HttpRequest

_PER_PAGE = 25
_RELATED = 5
_PRICE = forms.DecimalField(min_value=Decimal("0.01"), max_digits=8, decimal_places=2)
_QUANTITY = forms.IntegerField(min_value=0, max_value=MOST)


@require_safe
@cached.shelves_page
def home(request: HttpRequest) -> HttpResponse:
    """Show the shelves of the shop, as one cached page, until a category is saved."""
    categories = Category.objects.annotate(count=Count("products"))
    return _made_now(render(request, "shop/home.html", {"categories": categories}))


@require_safe
def catalogue(request: HttpRequest, slug: str = "") -> HttpResponse:
    """Show a page of the catalogue, cached until a price on it changes."""
    cached_page = cache_page(
        cached.TIMEOUT, key_prefix=f"catalogue.{cached.catalogue_version(slug)}"
    )
    return cached_page(_catalogue)(request, slug)


def _catalogue(request: HttpRequest, slug: str) -> HttpResponse:
    category = get_object_or_404(Category, slug=slug) if slug else None
    products = (
        Product.objects.select_related("category")
        .annotate(rating=Avg("reviews__stars"))
        .order_by("name", "pk")
    )
    if category:
        products = products.filter(category=category)
    page = Paginator(products, _PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "category": category,
        "categories": Category.objects.all(),
        "page": page,
        "pages": page.paginator.get_elided_page_range(page.number, on_ends=1),
    }
    return _made_now(render(request, "shop/catalogue.html", context))


@require_safe
def product(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a product: cached data and fragments. JSON with ?format=json."""
    try:
        row = cached.product(pk)
    except Product.DoesNotExist as exc:
        raise Http404(f"no product {pk}") from exc
    if request.GET.get("format") == "json":
        response = JsonResponse({"id": pk, "name": row["name"], "price": row["price"]})
    else:
        context = {
            "product": row,
            "cart": Cart(request.session),
            # Called by the template, in fragments that the cache does not have.
            "find_reviews": partial(Review.objects.filter, product_id=pk),
            "find_related": partial(_related, row["category_slug"], pk),
            "product_tag": cached.product_tag(pk),
            "category_tag": cached.category_tag(row["category_slug"]),
            "related_version": cached.catalogue_version(row["category_slug"]),
        }
        response = render(request, "shop/product.html", context)
    response[MADE_AT] = f"{row['loaded_at']:.3f}"
    return response


@csrf_exempt
@require_POST
def price(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a price. Every worker shows it as soon as it is committed.

    Not protected by CSRF's cookie but by the staff token, which no browser sends by
    itself: in the form, or as ``Authorization: Bearer ...``.
    """
    if not is_staff(request):
        return HttpResponse("the staff token is missing or wrong\n", status=403)
    try:
        new_price = _PRICE.clean(request.POST.get("price"))
    except ValidationError as exc:
        return HttpResponseBadRequest(f"price: {' '.join(exc.messages)}\n")
    with transaction.atomic():
        row = get_object_or_404(Product, pk=pk)
        row.price = new_price
        row.save(update_fields=["price", "updated_at"])
        transaction.on_commit(partial(cached.product_changed, pk))
    if request.accepts("text/html"):
        return redirect("product", pk)
    return JsonResponse({"id": pk, "price": new_price})


@require_safe
@never_cache
def cart(request: HttpRequest) -> HttpResponse:
    """Show the visitor's cart, at today's prices."""
    cart = Cart(request.session)
    lines = cart.lines
    context = {
        "cart": cart,
        "lines": lines,
        "total": sum((line.total for line in lines), Decimal(0)),
    }
    return render(request, "shop/cart.html", context)


@require_POST
def cart_add(request: HttpRequest, pk: int) -> HttpResponse:
    """Put one more of a product into the cart."""
    if not Product.objects.filter(pk=pk).exists():
        raise Http404(f"no product {pk}")
    Cart(request.session).add(pk)
    return redirect("cart")


@require_POST
def cart_put(request: HttpRequest, pk: int) -> HttpResponse:
    """Set how many of a product are in the cart."""
    try:
        quantity = _QUANTITY.clean(request.POST.get("quantity"))
    except ValidationError as exc:
        return HttpResponseBadRequest(f"quantity: {' '.join(exc.messages)}\n")
    Cart(request.session).put(pk, quantity)
    return redirect("cart")


@require_safe
@never_cache
def stats(request: HttpRequest) -> HttpResponse:
    """Show what this worker's cache did so far. JSON with ?format=json."""
    report = statistics.report()
    if request.GET.get("format") == "json":
        return JsonResponse(report)
    context = {
        "report": report,
        "tiles": plots.tiles(),
        "shares": statistics.shares(),
        "delays": plots.delays(),
        "workers": plots.workers(),
        "tables": [
            ("Statistics", statistics.rows(report["stats"])),
            ("Health", statistics.rows(report["health"])),
        ],
    }
    return render(request, "shop/stats.html", context)


def _related(slug: str, pk: int) -> object:
    """Find a few other products of the category, the next ones in its order."""
    others = Product.objects.select_related("category").filter(category__slug=slug)
    return others.filter(pk__gt=pk).order_by("pk")[:_RELATED]


def _made_now(response: HttpResponse) -> HttpResponse:
    response[MADE_AT] = f"{time.time():.3f}"
    return response
