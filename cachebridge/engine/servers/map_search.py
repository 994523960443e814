"""Which of a cluster's nodes are asked for its map, and whose answer counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.l2.cluster.slots import Address, SlotMap


def find_map(
    nodes: Iterable[Address],
    ask: Callable[[Address], SlotMap],
    silent: set[Address],
    known: int,
) -> SlotMap:
    """Ask nodes until one is whole and knows at least the epoch ``known``; blocks.

    Otherwise the map with the highest epoch counts: a node that was cut off does not
    know of a failover.  Those that do not answer are noted in ``silent``.  Raises what
    connecting raises if none has a map.
    """
    from redis.exceptions import RedisError  # noqa: PLC0415 takes long to import

    best: SlotMap | None = None
    failure: Exception = ConnectionError("no node of the cluster has slots")
    for address in nodes:
        try:
            found = ask(address)
        except (RedisError, OSError) as exc:
            failure = exc
            silent.add(address)
            continue
        silent.discard(address)
        if found.ranges and (best is None or found[:2] > best[:2]):
            best = found
        if best is not None and best.is_whole and best.epoch >= known:
            break
    if best is None:
        raise failure
    return best
