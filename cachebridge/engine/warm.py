"""``cache.warm``: the keys that a caller names, or that match a pattern, go into L1.

The command orders the same of the workers: no process can fill another's L1.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.keys import escape_glob
from cachebridge.core.outage import NEVER
from cachebridge.engine.warming.automatic import BATCH
from cachebridge.engine.warming.lists import (
    KEPT_MS,
    MOST_BYTES,
    MOST_KEYS,
    ORDERED,
    decode_list,
    encode_list,
)
from cachebridge.errors import ConfigError, UnsupportedOperationError
from cachebridge.waiting.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.engine.binding import Binding
    from cachebridge.engine.kinds.key_operations import KeyOperations
    from cachebridge.waiting.io import IO

POLL_S: Final = 0.01
MADE_BY_FUNCTION: Final = (
    "a function makes the keys of this cache: no pattern finds them, and no list names "
    "them. Give keys to the method warm()."
)


async def warm(
    binding: Binding,
    io: IO,
    full_key_of: Callable[[Any], str],
    keys: Iterable[Any] | None,
    pattern: object,
) -> int:
    """Fill L1, and return by how many entries; see ``AdminMethods.warm``."""
    most = binding.engine.options.l1_max_entries

    def locate(key: Any) -> tuple[KeyOperations, str]:
        full_key = full_key_of(key)
        return binding.operations_for(str(key), full_key), full_key

    if pattern is None:
        lacking = binding.lacking(_listed(keys, most), locate)
    elif keys is None:
        own = await find(binding, io, pattern, most, "L1_MAX_ENTRIES")
        lacking = binding.lacking_of_own(own)
    else:
        raise TypeError("warm() takes keys or pattern, not both.")
    if not lacking:
        return 0
    await _until_trusted(binding, io)
    for start in range(0, len(lacking), BATCH):
        if not await binding.warm(io, lacking[start : start + BATCH]):
            break
    look = binding.engine.l1.look
    return sum(look(full_key) is not None for full_key in lacking)


def _listed(keys: Iterable[Any] | None, most: int) -> list[Any]:
    """Return the keys; raise if they are none, or more than L1 holds."""
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a list of keys, not {keys!r}; or give pattern.")
    listed = list(islice(keys, most + 1))
    if len(listed) > most:
        raise ConfigError(
            f"keys are more than L1 holds: L1_MAX_ENTRIES is {most}. Give fewer, or "
            "raise L1_MAX_ENTRIES."
        )
    return listed


async def find(
    binding: Binding, io: IO, pattern: object, most: int, bound: str
) -> list[str]:
    """Return the keys, without the cache's prefix, that match a pattern of Redis.

    Raises ConfigError if they are more than ``most``, which ``bound`` names.
    """
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(
            f"pattern must be a text such as 'product:*', not {pattern!r}."
        )
    prefix = _own_prefix(binding)
    operations = binding.coherent.on(io)
    found = await operations.find(escape_glob(prefix) + pattern, most)
    if len(found) > most:
        raise ConfigError(
            f"pattern {pattern!r} matches more keys than {bound} allows, {most}: "
            "narrow it."
        )
    return [key.removeprefix(prefix) for key in found]


async def _until_trusted(binding: Binding, io: IO) -> None:
    """Wait, in a new process, until L1 may be filled: for BUS_TRUST at most."""
    engine = binding.engine
    engine.listening.start()
    never = Signal()
    for _ in range(round(engine.options.bus_trust / POLL_S)):
        is_new = engine.rules.vouched_until == NEVER and engine.rules.enabled
        if not (is_new and engine.listening.is_running()):
            return
        await io.wait(never, POLL_S)


async def existing(
    binding: Binding, io: IO, keys: Sequence[str], tell: Callable[[int], object]
) -> list[str]:
    """Return those keys that exist; ``tell`` hears how many were looked for."""
    prefix, l2 = _own_prefix(binding), binding.engine.l2_for(io)
    there: list[str] = []
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        reads = await l2.get_many([prefix + key for key in batch])
        there += [
            key for key, (raw, _) in zip(batch, reads, strict=True) if raw is not None
        ]
        tell(start + len(batch))
    return there


async def order(binding: Binding, io: IO, keys: list[str]) -> None:
    """Leave a list of keys that exist for all workers with L1_WARM, if there are any.

    It takes the place of the list that was ordered before.  Raises ConfigError if the
    names are too long for one list, and L2Error.
    """
    prefix, l2 = _own_prefix(binding), binding.engine.l2_for(io)
    await l2.ping()  # a search that found nothing may have found no server
    raw = encode_list([(prefix, keys)])
    if len(keys) > MOST_KEYS or decode_list(raw) != [(prefix, keys)]:
        raise ConfigError(
            f"keys are too many for one list: {len(keys)}, {MOST_KEYS} and "
            f"{MOST_BYTES} bytes are allowed. Give fewer."
        )
    if keys:
        await l2.keep_list(ORDERED, raw, KEPT_MS)


def _own_prefix(binding: Binding) -> str:
    if binding.own_prefix is None:
        raise UnsupportedOperationError(MADE_BY_FUNCTION)
    return binding.own_prefix
