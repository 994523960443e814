"""Who may change prices and sales: a client that sends the staff's token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.crypto import constant_time_compare

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["is_staff"]


def is_staff(request: HttpRequest) -> bool:
    """Return whether the token is in the form, or in ``Authorization: Bearer ...``.

    No browser sends it by itself, so such a request needs no protection of CSRF's.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        given = request.POST.get("token", "")
    token = settings.SHOP_STAFF_TOKEN
    return bool(token) and constant_time_compare(given, token)
