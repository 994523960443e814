"""The pages of the sale, and what its live figures and load script ask for.

A buyer of these pages is a name in a signed cookie; a real shop has its login for it.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from django.http import Http404, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from example_project.sale import live, records
from example_project.sale.live import sale
from example_project.sale.models import Listed, Purchase
from example_project.sale.selling import Outcome, is_user
from example_project.shop import cached, statistics
from example_project.shop.staff import is_staff

if TYPE_CHECKING:
    from django.http import HttpRequest

_COOKIE: Final = "buyer"
_COOKIE_S: Final = 7 * 24 * 3600
_MOST_SHOWN: Final = 100
_NO_STAFF: Final = "the staff token is missing or wrong\n"
_NO_USER: Final = "user: 1 to 40 letters, digits, . _ -\n"
_SAYINGS: Final = {
    Outcome.BOUGHT: "It is yours.",
    Outcome.SOLD_OUT: "Sold out. If a piece comes back, the button does, too.",
    Outcome.LIMIT: "You have as many as one buyer may have.",
    Outcome.DENIED: "You are on the deny list of this sale.",
    Outcome.NOT_INVITED: "This sale is for invited buyers.",
    Outcome.CLOSED: "This sale is not open.",
    Outcome.TRY_AGAIN: "We cannot count at the moment, so nothing is sold. Try again.",
}


@require_safe
@never_cache
def activity(request: HttpRequest) -> HttpResponse:
    """Show the newest sale: what it sells, what is left, and the button."""
    number = records.newest()
    if number is None:
        return render(request, "sale/none.html")
    sale.views(number).add()
    outcome = request.GET.get("outcome", "")
    extra = {
        "product": cached.product(_terms(number)["product_id"]),
        "outcome": outcome,
        "saying": _SAYINGS.get(outcome),  # type: ignore[call-overload]
    }
    return _page(request, number, "activity", extra)


@require_POST
def buy(request: HttpRequest, number: int) -> HttpResponse:
    """Sell one to the visitor."""
    buyer = _buyer(request)
    outcome = sale.buy(number, buyer).outcome
    return _remember(redirect(f"{reverse('sale')}?outcome={outcome}"), buyer)


@require_safe
@never_cache
def stock(request: HttpRequest, number: int) -> HttpResponse:
    """Show the counters, and how this worker has answered."""
    return _page(request, number, "stock", {"shares": statistics.shares()})


@require_safe
@never_cache
def mine(request: HttpRequest, number: int) -> HttpResponse:
    """Show what the visitor has bought."""
    bought = Purchase.objects.filter(activity_id=number, user=_buyer(request))
    return _page(request, number, "mine", {"purchases": bought})


@require_POST
def give_back(request: HttpRequest, number: int, purchase: int) -> HttpResponse:
    """Take a piece back: the next buyer gets it, in whichever process."""
    terms = _terms(number)
    user = _buyer(request)
    # The record goes first: a unit may be lost then, but none is sold twice.
    if Purchase.objects.filter(pk=purchase, activity_id=number, user=user).delete()[0]:
        sale.give_back(terms, user)
    return redirect("sale-mine", number)


@require_safe
@never_cache
def lists(request: HttpRequest, number: int) -> HttpResponse:
    """Show who is refused and who is invited, with a form for the staff."""
    listed = sale.lists(_terms(number))
    extra = {
        "lists": [
            ("Deny", sorted(listed.denied)[:_MOST_SHOWN], "denied"),
            ("Allow", sorted(listed.allowed)[:_MOST_SHOWN], "allowed"),
        ],
        "log": records.log_of(number).splitlines()[: -_MOST_SHOWN - 1 : -1],
        "kinds": [*Listed.Kind.values, ""],
    }
    return _page(request, number, "lists", extra)


@csrf_exempt
@require_POST
def change_lists(request: HttpRequest, number: int) -> HttpResponse:
    """Put users on a list, or on none. For the staff; every worker knows at once."""
    if not is_staff(request):
        return HttpResponse(_NO_STAFF, status=403)
    _terms(number)
    users = set(re.split(r"[\s,]+", request.POST.get("users", "").strip()))
    if not all(map(is_user, users)):
        return HttpResponseBadRequest(_NO_USER)
    kind = request.POST.get("kind")
    if kind not in {*Listed.Kind.values, ""}:
        return HttpResponseBadRequest('kind: "deny", "allow" or ""\n')
    records.change_lists(sale, number, kind, users, "staff")
    if request.accepts("text/html"):
        return redirect("sale-lists", number)
    return JsonResponse({"users": len(users), "kind": kind})


@require_safe
@never_cache
def figures(request: HttpRequest, number: int) -> HttpResponse:
    """Return the live figures of all pages, for their script."""
    return JsonResponse(_figures(number, _buyer(request)))


@csrf_exempt
@require_POST
def orders(request: HttpRequest, number: int) -> HttpResponse:
    """Sell a unit to the user that the staff names: the door of the load script."""
    if not is_staff(request):
        return HttpResponse(_NO_STAFF, status=403)
    user = request.POST.get("user", "")
    if not is_user(user):
        return HttpResponseBadRequest(_NO_USER)
    return JsonResponse(sale.buy(number, user)._asdict())


@require_safe
@never_cache
def audit(_request: HttpRequest, number: int) -> HttpResponse:
    """Compare what was delivered with what was sold."""
    _terms(number)
    return JsonResponse(records.audit(sale, number))


def _page(
    request: HttpRequest, number: int, name: str, extra: dict[str, Any]
) -> HttpResponse:
    """Render a page with the figures that it would show a moment later by script."""
    buyer = _buyer(request)
    context = {
        "activity": _terms(number),
        "buyer": buyer,
        "figures": _figures(number, buyer),
        "number": number,
        "here": f"sale/{name}",
        **extra,
    }
    return _remember(render(request, f"sale/{name}.html", context), buyer)


def _figures(number: int, buyer: str) -> dict[str, Any]:
    terms = _terms(number)
    listed = sale.lists(terms)
    totals = live.totals(number)
    left, state = totals["left"], sale.state(terms)
    if state == "open" and left == 0:
        state = "sold-out"  # though no buyer was refused yet
    shares = {share.name: share.percent for share in statistics.shares()}
    return {
        **totals,
        "delivered": terms["delivered"],
        "sold": None if left is None else terms["delivered"] - left,
        "mine": live.mine(terms, buyer),
        "state": state,
        "denied": len(listed.denied),
        "allowed": len(listed.allowed),
        "worker": os.getpid(),
        "local": f"{shares.get('L1', 0.0):.1f} %",
    }


def _terms(number: int) -> dict[str, Any]:
    terms = sale.activities.get(number)
    if terms is None:
        raise Http404(f"no sale {number}")
    return terms


def _buyer(request: HttpRequest) -> str:
    name = request.get_signed_cookie(_COOKIE, "", max_age=_COOKIE_S)
    return name or f"guest-{secrets.token_hex(3)}"


def _remember(response: HttpResponse, buyer: str) -> HttpResponse:
    response.set_signed_cookie(
        _COOKIE, buyer, max_age=_COOKIE_S, httponly=True, samesite="Lax"
    )
    return response
