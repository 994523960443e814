"""A session engine of a project's own, as SESSION_ENGINE names it."""

from __future__ import annotations

from django.contrib.sessions.backends import cache


class SessionStore(cache.SessionStore):
    cache_key_prefix = "visits:"
