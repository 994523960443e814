"""E001, W011, W014, I001: entries of CACHES that cannot be made, or hear too little.

That is: of no writes, of no questions, or of nothing that others have read.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import (
    CheckMessage,
    Error,
    Info,
    Warning,  # noqa: A004 Django's name for it
)

from cachebridge.contrib.django.aliases import (
    UnusableAliasError,
    binding_of,
    bridge,
    bridge_names,
    usable_bridges,
)


def check_usable(**_given: Any) -> list[CheckMessage]:
    """Make each of our caches once, and report those that cannot be made."""
    found: list[CheckMessage] = []
    for name in bridge_names():
        try:
            bridge(name)
        except UnusableAliasError as exc:
            found.append(
                Error(
                    f"The cache {name!r} cannot be made: {exc}",
                    hint=f"Correct CACHES[{name!r}]; docs/options.md has the options.",
                    id="cachebridge.E001",
                )
            )
    return found


def check_bus(**_given: Any) -> list[CheckMessage]:
    """Warn of an L1 over Memcached without messages, unless BUS says so."""
    found: list[CheckMessage] = []
    for name, cache in usable_bridges().items():
        engine = binding_of(cache).engine
        options = engine.options
        is_wanted = options.bus == "none" or options.l1_max_entries == 0
        if engine.stores.cluster is None or engine.stores.has_bus or is_wanted:
            continue
        found.append(
            Warning(
                f"The cache {name!r} keeps values in L1 over {engine.location.label}, "
                "which announces no writes: other processes serve the old value "
                f"for up to L1_TTL ({options.l1_ttl:g} s).",
                hint=(
                    "Name a Redis server for the messages in OPTIONS['BUS_LOCATION']; "
                    "or say that it is meant: OPTIONS['BUS'] = 'none', with an L1_TTL "
                    "as short as values may be old, or L1_MAX_ENTRIES = 0 for no L1."
                ),
                id="cachebridge.W011",
            )
        )
    return found


def check_asked(**_given: Any) -> list[CheckMessage]:
    """Say which caches the admin's page cannot show, since they answer no questions."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    return [
        Info(
            f"The processes of the cache {name!r} answer no questions: the admin's "
            "page Caches and the command line show none of them.",
            hint="Leave out OPTIONS['FLEET_ASK'], or silence this if it is meant.",
            id="cachebridge.I001",
        )
        for name, cache in usable_bridges().items()
        if not binding_of(cache).engine.options.fleet_ask
    ]


def check_shared_l1(**_given: Any) -> list[CheckMessage]:
    """Warn of an L1_SHARED that has no effect here, without making a file."""
    return [
        Warning(
            f"The cache {name!r} shares no L1 with other processes of this host: "
            f"{problem}.",
            hint="docs/host-l1.md says what L1_SHARED needs; None turns it off.",
            id="cachebridge.W014",
        )
        for name, cache in usable_bridges().items()
        if (problem := binding_of(cache).engine.host_l1.foreseen_problem())
    ]
