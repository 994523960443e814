"""The scene of async: the shop's service under uvicorn beside the shop under gunicorn.

Prices are changed by plain views in a worker of the one and watched through
asynchronous views in the other, and the reverse.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from example_project import stack, together

if TYPE_CHECKING:
    from example_project.stack import Service

__all__ = ["NAMES", "async_service", "play"]

NAMES = ("gunicorn", "uvicorn")


def async_service(redis_url: str) -> Service:
    """Describe the service over the shop's cache and database."""
    return stack.Service(
        "async-service",
        _uvicorn,
        {
            "DJANGO_SETTINGS_MODULE": "example_project.asgi_settings",
            "SHOP_CACHE_BACKEND": stack.CACHEBRIDGE,
            "SHOP_REDIS_URL": redis_url,
            "SHOP_STAFF_TOKEN": stack.STAFF_TOKEN,
        },
    )


def _uvicorn(listener: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "example_project.asgi:application"),
        *("--fd", str(listener), "--timeout-keep-alive", "75"),
        *("--no-access-log", "--log-level", "warning", "--lifespan", "off"),
        *("--timeout-graceful-shutdown", "1"),
    ]


def play(shop: Service, service: Service, *, number: int) -> list[str]:
    """Print the delays in both directions; return the promises that did not hold."""
    seen = together.watch(shop, service, NAMES)
    return together.report(number, "Plain and asynchronous views", seen)
