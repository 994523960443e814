"""The life of engines: one per server and process, across threads, forks and exits."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from cachebridge.engine.engine import Engine
from cachebridge.errors import ConfigError
from cachebridge.l2.location import hide_password, parse_location

if TYPE_CHECKING:
    from cachebridge.config import EngineOptions

DATABASE = ", or use another database number"
EXIT_PATIENCE_S = 2.0
"""What refreshes that run get at exit, in seconds."""

_lock = threading.Lock()
_engines: dict[tuple[str, ...], tuple[Engine, str]] = {}
_alive: WeakSet[Engine] = WeakSet()
"""Also those retired: whoever kept an adapter may use them on."""


def engine_for(location: object, options: EngineOptions, *, user: str) -> Engine:
    """Return the process's engine for a LOCATION, making it if need be.

    ``user`` names the cache for errors.  Raises ConfigError if another cache uses the
    same server with other engine options: there is one L1 and one bus for both.
    """
    parsed = parse_location(location, options.client_kwargs)
    with _lock:
        known = _engines.get(parsed.identity)
        if known is None:
            engine = Engine(parsed, options)
            _engines[parsed.identity] = (engine, user)
            _alive.add(engine)
            return engine
    engine, first_user = known
    differing = engine.options.differences(options)
    if differing:
        raise ConfigError(
            f"{user} and {first_user} share one engine on {parsed.label} but differ in "
            f"{', '.join(differing)}: {_contrast(differing[0], options, engine)}. "
            f"Give both the same value{'' if not parsed.is_redis else DATABASE}."
        )
    return engine


def engine_apart(location: str, options: EngineOptions) -> Engine:
    """Make an engine that no other cache shares; it goes when its owner does."""
    engine = Engine(parse_location(location), options)
    _alive.add(engine)
    return engine


def _contrast(name: str, options: EngineOptions, engine: Engine) -> str:
    """Say how an option differs, without the secrets that some hold."""
    ours = getattr(options, name.lower())
    theirs = getattr(engine.options, name.lower())
    if name == "CLIENT_KWARGS":
        ours, theirs = sorted(ours), sorted(theirs)
    if name == "BUS_LOCATION":
        ours, theirs = (each and hide_password(each) for each in (ours, theirs))
    return f"{name} is {ours!r} here and {theirs!r} there"


def retire(engine: Engine) -> None:
    """Stop an engine and forget it; a new one is made when next asked for."""
    with _lock:
        for identity, (known, _) in list(_engines.items()):
            if known is engine:
                del _engines[identity]
    engine.stop()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 the parent's lock may be held by a thread we lack
    _lock = threading.Lock()
    for engine in tuple(_alive):
        engine.after_fork()


def _stop_all() -> None:
    for engine in tuple(_alive):
        engine.stop(patience_s=EXIT_PATIENCE_S)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_stop_all)
