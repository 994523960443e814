"""The life of engines: one per server and process, across threads, forks and exits."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from cachebridge.engine.engine import Engine
from cachebridge.engine.fleet.answering import Answering
from cachebridge.errors import ConfigError
from cachebridge.events import event
from cachebridge.l2.resolving import resolve
from cachebridge.texts import hide_password
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.config import EngineOptions
    from cachebridge.l2.location import Location

_log = logging.getLogger("cachebridge.engine")

DATABASE = ", or use another database number"
EXIT_PATIENCE_S = 2.0
"""What refreshes that run get at exit, in seconds."""
LAST = -100
"""Priority of a finalizer of ``multiprocessing``: after the process's children."""

_lock = threading.Lock()
_engines: dict[tuple[str, ...], tuple[Engine, str]] = {}
_alive: WeakSet[Engine] = WeakSet()
"""Also those retired: an adapter that was kept may go on using them."""


def engine_for(location: object, options: EngineOptions, *, user: str) -> Engine:
    """Return the process's engine for a LOCATION, making it if need be.

    ``user`` names the cache for errors.  Raises ConfigError if another cache uses the
    same server with other engine options: there is one L1 and one bus for both.  Of
    L1_TTL the shortest counts, for all of them.
    """
    parsed, options = resolve(location, options)
    with _lock:
        known = _engines.get(parsed.identity)
        if known is None:
            engine = Engine(parsed, options)
            engine.receiver.on_ask = Answering(engine).take
            engine.on_server_known = _on_server_known
            _engines[parsed.identity] = (engine, user)
            _alive.add(engine)
            return engine
    engine, first_user = known
    ours = _comparable(parsed, replace(options, l1_ttl=engine.options.l1_ttl))
    theirs = _comparable(engine.location, engine.options)
    differing = theirs.differences(ours)
    if differing:
        raise ConfigError(
            f"{user} and {first_user} share one engine on {parsed.label} but differ in "
            f"{', '.join(differing)}: {_contrast(differing[0], ours, theirs)}. "
            f"Give both the same value{'' if not parsed.is_redis else DATABASE}."
        )
    with _lock:
        engine.shorten_l1_ttl(options.l1_ttl)
    return engine


def _on_server_known(engine: Engine) -> None:
    """Warn if an engine finds another one of this process on its server and database.

    Their addresses or accounts differ.  Each has an L1 of its own, so each tells the
    other of its writes before they return.
    """
    with _lock:
        known = engine.rules.siblings
        others = _relate(engine)
    for other in others:
        if other.rules in known:
            continue
        _log.warning(
            "%s and %s are one server and database under two addresses or accounts: "
            "each has an L1 of its own. Give all caches the same LOCATION.",
            engine.location.label,
            other.location.label,
            extra=event("location.twice", location=engine.location.label),
        )
        _send_queued(engine)
        _send_queued(other)


def _send_queued(engine: Engine) -> None:
    """Empty the queue, for which no call of a sibling waits; what fails is lost."""
    queue, keys = engine.write_behind, list(engine.write_behind.latest)
    if run(queue.before(THREADS, keys)) is not None:
        engine.outage.lose(queue.withdraw(keys), None, engine.clock())


def _relate(engine: Engine) -> list[Engine]:
    """Make siblings of the engines on one server and database; return the engine's."""
    groups: dict[tuple[bytes, int], list[Engine]] = {}
    for each, _ in _engines.values():
        if each.server_id and each.stores.outbox is None:  # else it is of the bus
            groups.setdefault((each.server_id, each.location.db), []).append(each)
    found: list[Engine] = []
    for group in groups.values():
        for each in group:
            others = [other for other in group if other is not each]
            each.rules.siblings = tuple(other.rules for other in others)
            if each is engine:
                found = others
    return found


def engine_apart(location: str, options: EngineOptions) -> Engine:
    """Make an engine that no other cache shares; it goes when its owner does."""
    engine = Engine(*resolve(location, options))
    engine.receiver.on_ask = Answering(engine).take
    _alive.add(engine)
    return engine


def _comparable(location: Location, options: EngineOptions) -> EngineOptions:
    """Return the options with all arguments of connections, also those in the URL."""
    if not location.is_redis:
        return options
    return replace(options, client_kwargs=location.arguments)


def _contrast(name: str, our: EngineOptions, their: EngineOptions) -> str:
    """Say how an option differs, without the secrets that some hold."""
    ours = getattr(our, name.lower())
    theirs = getattr(their, name.lower())
    if name == "CREDENTIAL_PROVIDER":
        ours, theirs = type(ours).__name__, type(theirs).__name__
    if name in {"CLIENT_KWARGS", "SENTINEL_KWARGS"}:
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
        engine.server_id, engine.rules.siblings = b"", ()
        _relate(engine)
    engine.stop()


def end(engine: Engine) -> None:
    """Retire an engine whose last cache was closed, with all its connections."""
    bus = engine.listening.bus
    retire(engine)
    if bus is not None:
        bus.join(EXIT_PATIENCE_S)
        engine.stores.close()  # also what the listener has used until now


def engines() -> tuple[Engine, ...]:
    """Return the process's engines, for those who report on them."""
    return tuple(_alive)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 the parent's lock may be held by a thread we lack
    _lock = threading.Lock()
    for engine in tuple(_alive):
        engine.after_fork()
    _stop_with_multiprocessing()


def _stop_all() -> None:
    for engine in tuple(_alive):
        engine.stop(patience_s=EXIT_PATIENCE_S)


def _stop_with_multiprocessing() -> None:
    """Stop all at the end of a child of ``multiprocessing``: it runs no ``atexit``.

    Such a child drops its finalizers when it begins, and then calls the second hook.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _stop_all, exitpriority=LAST)
        util.register_after_fork(
            _stop_all, lambda stop: util.Finalize(None, stop, exitpriority=LAST)
        )


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_stop_all)
_stop_with_multiprocessing()
