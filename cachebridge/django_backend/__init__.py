"""Django: ``"BACKEND": "cachebridge.django_backend.CacheBridge"``."""

from __future__ import annotations

from cachebridge.django_backend.backend import CacheBridge

__all__ = ["CacheBridge"]
