"""Throttles of a project's own, as REST_FRAMEWORK names them."""

from __future__ import annotations

from rest_framework.throttling import AnonRateThrottle


class OwnThrottle(AnonRateThrottle):
    cache_format = "calls_%(scope)s_%(ident)s"
