"""What can be done with one kind of keys of a cache, by threads and by tasks."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.codec.envelope import STAMPS
from cachebridge.config import DJANGO_REDIS_FORMAT
from cachebridge.core.direct import Direct, DirectWrite
from cachebridge.core.fill import Fill
from cachebridge.core.loading import load_terms
from cachebridge.core.write import StampWrite, UnheldWrite, Write
from cachebridge.engine.holding.operations import HeldOperations
from cachebridge.engine.loading.get_or_load import Loading
from cachebridge.engine.operations import Operations
from cachebridge.engine.outage.fallbacks import Fallbacks, ResilientOperations
from cachebridge.engine.tagging.stamps import StampKeys
from cachebridge.waiting.io import TASKS, THREADS

if TYPE_CHECKING:
    from cachebridge.config import CacheOptions
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.holding.blocks import View
    from cachebridge.engine.values import Values
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

Loader = Callable[[], Any]


class KeyOperations:
    """What can be done with one kind of keys of a cache.  Thread safe.

    Both members have the same coroutines.  A thread carries those of ``for_threads``
    out with ``waiting.run``; a task awaits those of ``for_tasks``.
    """

    __slots__ = ("fallbacks", "for_tasks", "for_threads")

    def __init__(
        self,
        engine: Engine,
        values: Values,
        options: CacheOptions,
        *,
        enters_l1: bool,
        publishes: bool,
        in_background: Callable[[Loader], Loader],
        key_of_tag: Callable[[str], str],
        are_stamps: bool = False,
        counters: Counters | None = None,
    ) -> None:
        """``enters_l1``: for the keys whose values L1 may hold; else for the others.

        ``publishes``: L1 may hold something under the keys, which a change takes away.
        ``in_background`` wraps a loader that is to run in a thread of ours.
        ``key_of_tag`` returns the full key of a tag's stamp; ``are_stamps`` says that
        these are their keys.  ``counters`` are those of the cache, if it has a name.
        """
        rules = engine.rules
        degrades = options.on_error == "degrade"
        how: dict[str, Any] = {
            "reads_l1": enters_l1,
            "publishes": publishes,
            "degrades": degrades,
            "jitter": options.ttl_jitter,
            "sides": {},
            "counters": counters,
        }
        if enters_l1:
            how["fill"] = partial(Fill, rules, serves_outage=degrades)
            of_keys = StampWrite if are_stamps else Write
            how["write"] = partial(of_keys, rules, serves_outage=degrades)
            how["count_read"] = engine.listening.count_read
        else:
            how["fill"] = partial(Direct, rules)
            how["write"] = partial(UnheldWrite if publishes else DirectWrite, rules)
            how["count_read"] = lambda: None
        if not are_stamps:
            how["stamp_keys"] = StampKeys(
                key_of_tag,
                engine.values_for(STAMPS),
                fill=how["fill"],
                write=partial(Write, rules, serves_outage=degrades),
                may_write=options.write_format != DJANGO_REDIS_FORMAT,
            )
        self.fallbacks = Fallbacks(engine, values, reads_l1=enters_l1)
        loading: Loading | None = None
        made: list[ResilientOperations] = []
        for io in (THREADS, TASKS):
            operations = Operations(engine, values, io, **how)
            loading = Loading(
                operations,
                engine,
                load_terms(options),
                in_background=in_background,
                for_threads=loading,
            )
            made.append(
                ResilientOperations(
                    engine,
                    operations,
                    self.fallbacks,
                    loading,
                    engine.replays[io],
                    for_threads=made[0] if made else None,
                )
            )
        self.for_threads, self.for_tasks = made

    def on(self, io: IO) -> ResilientOperations:
        """Return the member for callers that wait as ``io`` does."""
        return self.for_threads if io is THREADS else self.for_tasks

    def seen_by(self, view: View) -> KeyOperations:
        """Return the same as a thread or task sees them within a transaction."""
        views = view.owner.views if view.block is None else view.block.views
        seen: KeyOperations | None = views.get(self)
        if seen is None:
            views[self] = seen = copy(self)
            seen.for_threads = HeldOperations(self.for_threads, self.for_threads, view)
            seen.for_tasks = HeldOperations(self.for_tasks, self.for_threads, view)
        return seen
