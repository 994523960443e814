"""Asynchronous views over the shop's cache: the same keys, awaited.

Under uvicorn beside the shop under gunicorn, they are coherent like any two workers.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING

from django import forms
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.urls import path
from django.utils import timezone
from django.utils.decorators import async_only_middleware
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from example_project.sale.awaited import sale
from example_project.sale.selling import is_user
from example_project.shop import cached, statistics
from example_project.shop.models import Product
from example_project.shop.staff import is_staff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest

_PRICE = forms.DecimalField(min_value=Decimal("0.01"), max_digits=8, decimal_places=2)


@require_safe
async def product(_request: HttpRequest, pk: int) -> HttpResponse:
    """Return a product's price; from L1 without suspending."""
    try:
        row = await cached.aproduct(pk)
    except Product.DoesNotExist as exc:
        raise Http404(f"no product {pk}") from exc
    return JsonResponse({"id": pk, "name": row["name"], "price": row["price"]})


@csrf_exempt
@require_POST
async def price(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a price; every worker of either kind shows it."""
    if not is_staff(request):
        return HttpResponse("the staff token is missing or wrong\n", status=403)
    try:
        new_price = _PRICE.clean(request.POST.get("price"))
    except ValidationError as exc:
        return HttpResponseBadRequest(f"price: {' '.join(exc.messages)}\n")
    changed = await Product.objects.filter(pk=pk).aupdate(
        price=new_price, updated_at=timezone.now()
    )
    if not changed:
        raise Http404(f"no product {pk}")
    await cached.aproduct_changed(pk)
    return JsonResponse({"id": pk, "price": new_price})


@csrf_exempt
@require_POST
async def orders(request: HttpRequest, number: int) -> HttpResponse:
    """Sell a unit to the user that the staff names; see ``sale.views.orders``."""
    if not is_staff(request):
        return HttpResponse("the staff token is missing or wrong\n", status=403)
    user = request.POST.get("user", "")
    if not is_user(user):
        return HttpResponseBadRequest("user: 1 to 40 letters, digits, . _ -\n")
    return JsonResponse((await sale.buy(number, user))._asdict())


@require_safe
async def stats(_request: HttpRequest) -> HttpResponse:
    """Return what this worker's cache did so far, as JSON."""
    found = statistics.lookups()
    return JsonResponse({**statistics.report(), "lookups": found and str(found)})


def not_found(_request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer in JSON: the shop's own page has links to views that are not here."""
    return JsonResponse({"error": str(exception)}, status=404)


@async_only_middleware
def say_who(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
    """Name the worker in the answer."""

    async def answer(request: HttpRequest) -> HttpResponse:
        response = await get_response(request)
        response["X-Worker-Pid"] = os.getpid()
        return response

    return answer


handler404 = not_found
urlpatterns = [
    path("products/<int:pk>/", product, name="product"),
    path("products/<int:pk>/price/", price, name="price"),
    path("sale/<int:number>/orders/", orders, name="sale-orders"),
    path("stats/", stats, name="stats"),
]
