"""E002, E003, W005 to W010, W012: what a server is, and what the account may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.checks import (
    CheckMessage,
    Error,
    Warning,  # noqa: A004 Django's name for it
)

from cachebridge.commands.facts import (
    MEMCACHED,
    REDIS,
    Facts,
    questions_of,
)
from cachebridge.contrib.django.aliases import (
    at_once,
    binding_of,
    conceal,
    usable_bridges,
)
from cachebridge.errors import NO_CLUSTER, NO_REPLICA
from cachebridge.stats import REPLICA

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.engine import Engine

OLDEST: Final = {REDIS: (6, 2), MEMCACHED: (1, 6, 10)}
LEAST_BUFFER: Final = 8 * 1024 * 1024
"""Bytes of unread messages that the server must keep for a process: twice what 10,000
writes a second of keys of usual length send within the default of BUS_TRUST."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A server, the aliases that use it, and its facts."""

    names: tuple[str, ...]
    without_ttl: tuple[str, ...]
    """Aliases whose TIMEOUT is None."""
    label: str
    listens: bool
    """Whether processes subscribe there: they have an L1 to keep coherent."""
    bus_trust_s: float
    facts: Facts
    is_bus: bool = False
    """Whether the server only carries messages."""

    @property
    def title(self) -> str:
        """The server and its aliases, for the texts of warnings."""
        names = ", ".join(map(repr, self.names))
        what = "cache" if len(self.names) == 1 else "caches"
        if self.is_bus:
            what = f"BUS_LOCATION of {what}"
        return f"{self.label} ({what} {names})"


def check_servers(**_given: Any) -> list[CheckMessage]:
    """Ask all servers at the same time, and return a warning for each problem.

    Takes at most a few ``MOST_WAIT_S`` however many servers do not answer.
    """
    every = _ask_all()
    return [
        message
        for asked in every
        for judge in (_JUDGES if not asked.facts.failure else (_unreachable,))
        if (message := judge(asked)) is not None
    ] + _same_servers(every)


def _same_servers(every: list[Asked]) -> list[CheckMessage]:
    """Warn of each server and database that caches name in two ways."""
    groups: dict[tuple[str, int], list[Asked]] = {}
    for asked in every:
        if asked.facts.identity and not asked.is_bus:
            groups.setdefault(asked.facts.identity, []).append(asked)
    return [
        Warning(
            f"{' and '.join(asked.title for asked in group)} are one server and "
            "database: in each process, each has an L1 of its own in the same keys.",
            hint="Write the same LOCATION for all of them, letter by letter.",
            id="cachebridge.W012",
        )
        for group in groups.values()
        if len(group) > 1
    ]


def _ask_all() -> list[Asked]:
    groups: dict[Engine, list[str]] = {}
    caches = usable_bridges()
    for name, cache in caches.items():
        groups.setdefault(binding_of(cache).engine, []).append(name)
    asked = [(engine, each) for engine in groups for each in questions_of(engine)]
    facts = at_once(lambda pair: pair[1].ask(), asked)
    return [
        Asked(
            names=tuple(groups[engine]),
            without_ttl=tuple(
                name for name in groups[engine] if caches[name].default_timeout is None
            ),
            label=question.label,
            listens=question.listens,
            bus_trust_s=engine.options.bus_trust,
            facts=each,
            is_bus=question.is_bus,
        )
        for (engine, question), each in zip(asked, facts, strict=True)
    ]


def _unreachable(asked: Asked) -> CheckMessage:
    failure = conceal(asked.facts.failure, asked.names[0])
    return Warning(
        f"{asked.title} could not be asked: {failure}",
        hint=(
            "Run the check where the application runs. If the server should be "
            "reachable from here, see to its address, password and certificates. The "
            "checks W006 to W010 were left out."
        ),
        id="cachebridge.W005",
    )


def _in_cluster_mode(asked: Asked) -> CheckMessage | None:
    if asked.facts.mode != "cluster":
        return None
    return Error(
        f"{asked.title} runs in cluster mode: most calls for several keys fail, and "
        "most of the others are sent elsewhere (MOVED).",
        hint=f"{NO_CLUSTER}.",
        id="cachebridge.E002",
    )


def _is_replica(asked: Asked) -> CheckMessage | None:
    if asked.facts.role != REPLICA:
        return None
    return Error(
        f"{asked.title} is a replica: it refuses every write, and L1 is never used.",
        hint=f"{NO_REPLICA[0].upper()}{NO_REPLICA[1:]}.",
        id="cachebridge.E003",
    )


def _too_old(asked: Asked) -> CheckMessage | None:
    version, product = asked.facts.version, asked.facts.product
    oldest = OLDEST[product]
    if version is None or version >= oldest:
        return None
    wanted = ".".join(map(str, oldest))
    return Warning(
        f"{asked.title} is version {'.'.join(map(str, version))}; cachebridge is made "
        f"for and tested with {wanted} and newer.",
        hint=f"Upgrade the server to {product} {wanted} or newer"
        + (", or to Valkey." if product == REDIS else "."),
        id="cachebridge.W006",
    )


def _fails_when_full(asked: Asked) -> CheckMessage | None:
    facts = asked.facts
    if not facts.max_memory or facts.eviction_policy != "noeviction":
        return None
    return Warning(
        f"{asked.title} has maxmemory {facts.max_memory} and maxmemory-policy "
        "noeviction: once it is full, every write fails (OOM command not allowed).",
        hint=(
            "A server for caches alone: set maxmemory-policy to allkeys-lfu or "
            "allkeys-lru. If it also holds what must not be lost (queues, sessions "
            "without a database), give the cache a server of its own."
        ),
        id="cachebridge.W007",
    )


def _cannot_evict(asked: Asked) -> CheckMessage | None:
    facts = asked.facts
    policy = facts.eviction_policy or ""
    if not facts.max_memory or not policy.startswith("volatile-"):
        return None
    if not asked.without_ttl:
        return None
    names = ", ".join(map(repr, asked.without_ttl))
    return Warning(
        f"{asked.title} has maxmemory-policy {policy}, which evicts keys with a TTL "
        f"only, while TIMEOUT is None for {names}: such keys are never evicted, and "
        "once they fill the server, every write fails (OOM command not allowed).",
        hint=f"Give {names} a TIMEOUT, or set maxmemory-policy to allkeys-lfu.",
        id="cachebridge.W008",
    )


def _no_rights(asked: Asked) -> CheckMessage | None:
    refused = asked.facts.refused
    if not refused:
        return None
    without = (
        "Without PUBLISH no other process learns of a write"
        if asked.is_bus
        else "Without EVALSHA, EVAL or PUBLISH every write fails and changes nothing"
    )
    return Warning(
        f"{asked.title} refuses {', '.join(refused)} to the account of the cache. "
        f"{without}; without SUBSCRIBE L1 is never used.",
        hint=(
            "Give the account the channels and commands, as an administrator: "
            "ACL SETUSER <user> &cachebridge:* +evalsha +eval +publish +subscribe. "
            "SECURITY.md lists all that it needs."
        ),
        id="cachebridge.W009",
    )


def _buffer_too_small(asked: Asked) -> CheckMessage | None:
    limit = asked.facts.subscriber_limit
    if limit is None or not asked.listens:
        return None
    too_small = 0 < limit.hard_bytes < LEAST_BUFFER or (
        # After a longer time over the soft limit, L1 is not trusted anyway.
        0 < limit.soft_bytes < LEAST_BUFFER and limit.soft_s <= asked.bus_trust_s
    )
    if not too_small:
        return None
    return Warning(
        f"{asked.title} disconnects subscribers that lag by more than "
        f"client-output-buffer-limit pubsub {' '.join(map(str, limit))}. After a "
        "burst of writes, or if it stops for a moment, a process then loses its whole "
        "L1.",
        hint=(
            "Set client-output-buffer-limit to 'pubsub 33554432 8388608 60', Redis's "
            "own default, or more."
        ),
        id="cachebridge.W010",
    )


_JUDGES: Final[tuple[Callable[[Asked], CheckMessage | None], ...]] = (
    _in_cluster_mode,
    _is_replica,
    _too_old,
    _fails_when_full,
    _cannot_evict,
    _no_rights,
    _buffer_too_small,
)
