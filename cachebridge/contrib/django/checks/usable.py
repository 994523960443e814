"""E001: an entry of CACHES from which no cache can be made."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error

from cachebridge.contrib.django.aliases import (
    UnusableAliasError,
    bridge,
    bridge_names,
)


def check_usable(**_given: Any) -> list[CheckMessage]:
    """Make every cache of ours once, and report what stands in the way."""
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
