"""The system checks, ``cachebridge.E001`` and ``cachebridge.W001`` to ``W011``.

Those that ask a server, and the one about security, run under ``check --deploy`` only.
``docs/operations.md`` lists them all.
"""

from __future__ import annotations

from typing import Final

from django.core.checks import Tags, register

from cachebridge.contrib.django.checks.bus import check_bus
from cachebridge.contrib.django.checks.l1_keys import (
    check_ratelimit,
    check_sessions,
    check_throttles,
)
from cachebridge.contrib.django.checks.security import check_pickle
from cachebridge.contrib.django.checks.server import check_servers
from cachebridge.contrib.django.checks.usable import check_usable

TAG: Final = "cachebridge"


def register_checks() -> None:
    """Tell Django of all checks; registering twice has no effect."""
    for check in (
        check_usable,
        check_sessions,
        check_throttles,
        check_ratelimit,
        check_bus,
    ):
        register(check, Tags.caches, TAG)
    register(check_pickle, Tags.caches, Tags.security, TAG, deploy=True)
    register(check_servers, Tags.caches, TAG, deploy=True)
