"""The system checks, ``cachebridge.E001`` to ``E003``, ``W001`` to ``W014``, ``I001``.

The checks that ask a server, and the one about security, run only with
``manage.py check --deploy``.
``docs/operations.md`` lists them all.
"""

from __future__ import annotations

from typing import Final

from django.core.checks import Tags, register

from cachebridge.contrib.django.checks.entries import (
    check_asked,
    check_bus,
    check_shared_l1,
    check_usable,
)
from cachebridge.contrib.django.checks.l1_keys import (
    check_ratelimit,
    check_sessions,
    check_throttles,
)
from cachebridge.contrib.django.checks.security import check_pickle, check_tls
from cachebridge.contrib.django.checks.server import check_servers

TAG: Final = "cachebridge"


def register_checks() -> None:
    """Register all checks with Django; registering twice has no effect."""
    for check in (
        check_usable,
        check_sessions,
        check_throttles,
        check_ratelimit,
        check_bus,
        check_asked,
        check_shared_l1,
    ):
        register(check, Tags.caches, TAG)
    for check in (check_pickle, check_tls):
        register(check, Tags.caches, Tags.security, TAG, deploy=True)
    register(check_servers, Tags.caches, TAG, deploy=True)
