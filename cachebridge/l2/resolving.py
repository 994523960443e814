"""LOCATION and the options together: what a URL overrides, and lists of replicas."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from cachebridge.config import override_engine_options
from cachebridge.errors import ConfigError
from cachebridge.l2.location import parse_location

if TYPE_CHECKING:
    from cachebridge.config import EngineOptions
    from cachebridge.l2.location import Location


def resolve(location: object, options: EngineOptions) -> tuple[Location, EngineOptions]:
    """Parse a LOCATION, and return the options as it changes them.

    The query of a URL overrides options, as with redis-py; CLIENT_KWARGS override both.
    With REPLICAS it is a list, or a text with commas: the primary, then its replicas.
    Raises ConfigError for
    an unusable one.
    """
    replicas: tuple[Location, ...] = ()
    if options.replicas != "none":
        location, replicas = _with_replicas(location, options)
    parsed = parse_location(location, options.client_kwargs)
    if replicas:
        parsed = _beside(parsed, replicas)
    if not parsed.is_redis:
        return parsed, options
    arguments = options.client_kwargs.keys() & parsed.connection_kwargs.keys()
    options = replace(
        options, client_kwargs={each: options.client_kwargs[each] for each in arguments}
    )
    try:
        return parsed, override_engine_options(options, parsed.options)
    except ConfigError as exc:
        raise ConfigError(
            f"LOCATION {parsed.label!r} or CLIENT_KWARGS: {exc}"
        ) from None


def _with_replicas(
    location: object, options: EngineOptions
) -> tuple[object, tuple[Location, ...]]:
    """Return the primary's URL, and its replicas."""
    urls = re.split("[;,]", location) if isinstance(location, str) else location
    if not isinstance(urls, (list, tuple)) or len(urls) < 2:  # noqa: PLR2004
        raise ConfigError(
            "REPLICAS='near' needs a LOCATION that lists the URL of the primary, then "
            "those of its replicas. REPLICAS='none' reads from the primary alone."
        )
    if options.bus == "none" or options.bus_location is not None:
        raise ConfigError(
            "REPLICAS='near' needs the primary's own messages, which prove how far a "
            "replica is: leave BUS and BUS_LOCATION out."
        )
    first, *rest = urls
    return first, tuple(parse_location(each, options.client_kwargs) for each in rest)


def _beside(primary: Location, replicas: tuple[Location, ...]) -> Location:
    """Return the primary with its replicas; raises ConfigError if they do not fit."""
    for each in (primary, *replicas):
        if not each.is_redis or each.sentinel is not None or each.cluster:
            raise ConfigError(
                f"LOCATION {each.label!r}: REPLICAS='near' is for one primary and its "
                "replicas, each given by a redis://, rediss:// or unix:// URL."
            )
        if each.db != primary.db:
            raise ConfigError(
                f"LOCATION {each.label!r}: a replica has the primary's database, "
                f"{primary.db}."
            )
    names = ["|".join(each.identity) for each in replicas]
    identity = (*primary.identity, *sorted(names))
    return replace(primary, identity=identity, replicas=replicas)
