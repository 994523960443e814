"""Lets every case of an adapter meet a fault, and writes down what came of it.

Three phases: the breaker closed yet (one cache has it switched off), the breaker open
(another cache, on another database), and recovered.  The cases of a phase run side by
side, each on keys of its own; all at once if most of them wait for a timeout.
"""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import redis

from cachebridge.errors import L2Error
from tests.proofs.outages.adapters import ADAPTERS, PAIRS
from tests.proofs.outages.cases import (
    CHANGED,
    COUNT,
    FAR,
    HELD,
    NEW,
    Asked,
    Keys,
    words_of,
)
from tests.proofs.outages.site import (
    AWAY,
    BUS_AWAY,
    CONNECT_TIMEOUT_S,
    CUT_WITHIN,
    PASSES,
    SOCKET_TIMEOUT_S,
)
from tests.rig import breaker_of, engine_of, eventually, pending_deletes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future

    from tests.proofs.outages.adapters import Adapter
    from tests.proofs.outages.cases import Case

DEADLINE_S: Final = CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S
"""For one round trip; a call may make one more to replay pending deletes."""
SLACK_S: Final = 1.5
"""What a busy machine may add."""
AT_A_TIME: Final = 4
"""Cases at a time where none waits for a timeout: more would come too late at times."""
OPENERS: Final = 40
"""So many keys are on all of three masters."""
OPEN_LIMIT_S: Final = 0.5
"""Far less than a timeout on a quiet machine; here it only has to be no timeout."""
OPTIONS: Final[dict[str, Any]] = {
    "bus_trust": 1.0,
    "bus_heartbeat": 0.1,
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "lease_ttl": 1.0,
}
PREFIXES: Final = ("p", "q")
SWEPT: Final = "swept"
SWITCH: Final = "`l1_off`, `l1_on`"
"""Memcached has none: the bus keeps it."""

Answers = dict[str, str]


@dataclass(slots=True)
class Observation:
    """What one adapter did with one fault, by row of the table."""

    kind: str
    healthy: Answers = field(default_factory=dict)
    failing: Answers = field(default_factory=dict)
    opened: Answers = field(default_factory=dict)
    """Empty if the fault does not open the breaker."""
    recovered: Answers = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)


class Bench:
    """A cache under test, another engine beside it, and the keys of the cases."""

    def __init__(
        self, adapter: Adapter, site: Any, db: int, *, on_error: str, failures: int
    ) -> None:
        self.adapter = adapter
        self._site, self._db = site, db
        self._is_degrading = on_error == "degrade"
        options = {
            **OPTIONS,
            "on_error": on_error,
            "breaker_failures": failures,
        }

        def make(prefix: str, db: int, *, direct: bool = False) -> Any:
            more = site.options(db, direct=direct)
            place = site.location(db, direct=direct)
            return adapter.make(place, prefix, **options, **more)

        self.cache, self.swept = [make(prefix, db) for prefix in PREFIXES]
        self.peer, self._peer_swept = [
            make(prefix, db, direct=True) for prefix in PREFIXES
        ]
        # L1 off and on again would hide an entry that should not be there.
        self.switched = make(PREFIXES[0], db + 2)
        self.pending: set[str] = set()
        self._offset = 0
        engine = self.engine = engine_of(self.cache)
        add = pending_deletes_of(self.cache).add

        def noting(keys: Any, pattern: Any, began: float) -> None:
            self.pending.update(keys)
            add(keys, pattern, began)

        engine.outage.pending_deletes.add = noting

    def close(self) -> None:
        """Stop both engines."""
        for cache in (self.cache, self.peer, self.switched):
            self.adapter.forget(cache)

    # -- before ------------------------------------------------------------------------

    def prepare(self) -> None:
        """Put the keys of every case where they belong."""
        self._offset += len(self.adapter.cases)
        self.pending.clear()
        self.settle()
        groups = [self._keys(number) for number in range(len(self.adapter.cases))]
        values: dict[str, Any] = {}
        for keys in groups:
            values |= {keys.held: HELD, keys.far: FAR, keys.count: COUNT}
            values |= {keys.excluded: FAR}
        self.peer.set_many(values)
        held = [keys.held for keys in groups]
        full_keys = [self._full_key(key) for key in held]
        self._peer_swept.set(SWEPT, HELD)

        def are_held() -> bool:
            self.adapter.read_many(self.cache, held)
            self.swept.get(SWEPT)
            return all(self.engine.l1.look(key) is not None for key in full_keys)

        eventually(are_held)
        time.sleep(0.02)  # what the peer wrote has been told by now
        found = self.adapter.read_many(self.cache, held)
        assert found == dict.fromkeys(held, HELD)
        eventually(are_held)
        for key in full_keys:
            self._site.overwrite(self._db, key, CHANGED)

    def _full_key(self, key: str, prefix: str = PREFIXES[0]) -> str:
        return self.adapter.full_key(prefix, key)

    def _keys(self, number: int) -> Keys:
        return Keys.of(self._offset + number)

    def await_distrust(self) -> None:
        """Wait until L1 would have to ask."""
        eventually(lambda: not self.cache.stats().trusted)

    def open_breaker(self) -> None:
        """Let one call fail; over a cluster, one at each master."""
        for cache in (self.cache, self.switched):
            for number in range(OPENERS):
                with suppress(L2Error):
                    cache.get(f"opener{number}")
                if breaker_of(cache).is_open:
                    break
            assert breaker_of(cache).is_open

    # -- the cases ---------------------------------------------------------------------

    def run(
        self,
        *,
        slow: list[str],
        is_away: bool = False,
        limit_s: float | None = None,
        strike: Callable[[], object] | None = None,
        is_precise: bool = False,
    ) -> Answers:
        """Run every case; return the answers in words."""
        cases = list(enumerate(self.adapter.cases))
        first = [each for each in cases if not each[1].comes_last]
        answers: Answers = {}

        def one(numbered: tuple[int, Case]) -> None:
            number, case = numbered
            if strike is not None and not case.comes_last:
                if is_precise:
                    # The bus must not reconnect between the cut and the call: then all
                    # connections are opened anew.
                    eventually(lambda: _is_well(self.cache))
                strike()
            if strike is not None and case.method == "health":
                self.settle()  # there is nothing to report once the bus is back
            asked = Asked(
                self.cache,
                self.swept,
                self.switched,
                self._keys(number),
                is_away,
                self._is_degrading,
                self.pending,
            )
            began = time.monotonic()
            answer: Any
            try:
                answer = case.ask(asked)
            except Exception as exc:
                answer = exc
            took_s = time.monotonic() - began
            most_s = limit_s or (case.trips + 1) * DEADLINE_S + SLACK_S
            if took_s > most_s:
                slow.append(f"{case.row}: {took_s:.2f} s, allowed {most_s:.2f} s")
            answers[case.row] = words_of(case, asked, answer)

        if strike is None:
            waits = is_away and limit_s is None
            with ThreadPoolExecutor(len(first) if waits else AT_A_TIME) as pool:
                list(pool.map(one, first))
        else:
            for each in first:
                one(each)
        for each in [each for each in cases if each[1].comes_last]:
            one(each)
        return {case.row: answers[case.row] for _, case in cases}

    # -- afterwards --------------------------------------------------------------------

    def write_elsewhere(self) -> None:
        """Change, past this cache, what it holds: it will have to notice."""
        groups = [self._keys(number) for number in range(len(self.adapter.cases))]
        with suppress(L2Error):
            self.peer.set_many({keys.held: NEW for keys in groups})

    def settle(self) -> None:
        """Wait until nothing of an outage remains."""
        for cache in (self.cache, self.peer):
            eventually(lambda: _is_well(cache))  # noqa: B023 waited for at once

    def stale(self) -> list[str]:
        """Compare every key, as each process sees it, with the store itself."""
        wrong: list[str] = []

        def all_agree() -> bool:
            try:
                wrong[:] = self._disagreements()
            except L2Error as exc:  # a slow machine: asked again, not forgiven
                wrong[:] = [f"not answered: {exc}"]
            return not wrong

        with suppress(AssertionError):
            eventually(all_agree)
        return wrong

    def _disagreements(self) -> Iterator[str]:
        keys = [key for n in range(len(self.adapter.cases)) for key in self._keys(n)]
        yield from self._disagreement(keys, PREFIXES[0], self.cache, self.peer)
        yield from self._disagreement(
            [SWEPT], PREFIXES[1], self.swept, self._peer_swept
        )

    def _disagreement(
        self, keys: list[str], prefix: str, cache: Any, peer: Any
    ) -> Iterator[str]:
        for key in keys:
            full_key = self._full_key(key, prefix)
            truth = self._site.truth(self._db, full_key, key, peer)
            for name, reader in (("cache", cache), ("peer", peer)):
                seen = [reader.get(key) for _ in range(2)]
                if seen != [truth] * 2:
                    yield f"{name} has {seen} as {key}, the store has {truth!r}"


def _is_well(cache: Any) -> bool:
    for _ in range(3):  # the first few reads start the listener
        with suppress(L2Error):
            cache.get("never-set")
    health = cache.health()
    return (
        health.l2_reachable
        and health.l1_trusted
        and not health.breaker_open
        and not health.deletes_owed
        and not health.messages_owed
    )


@functools.cache
def observe(fault_name: str, adapter_name: str, on_error: str) -> Observation:
    """Return what happens; observed once in a run, however many ask."""
    seen = _observe_patiently(fault_name, adapter_name, on_error)
    if fault_name == CUT_WITHIN:
        # A heartbeat may meet the cut instead of the call, which works then.
        again = _observe_patiently(fault_name, adapter_name, on_error)
        for row, answer in again.failing.items():
            if seen.failing[row] == seen.healthy[row]:
                seen.failing[row] = answer
    return seen


def _observe_patiently(
    fault_name: str, adapter_name: str, on_error: str
) -> Observation:
    """Observe again if this machine may have been too busy: what is wrong shows again.

    Twice at most.
    """
    for _ in range(2):
        with suppress(AssertionError, redis.RedisError):
            seen = _observe(fault_name, adapter_name, on_error)
            if seen.stale or not _may_be_busy(seen, fault_name):
                return seen
    return _observe(fault_name, adapter_name, on_error)


def _may_be_busy(seen: Observation, fault_name: str) -> bool:
    """Tell whether an answer came too late, or not at all from a store that works."""
    works = seen.kind in {BUS_AWAY, PASSES} and fault_name != CUT_WITHIN
    store_failed = "`L2Error`" in {
        answer for row, answer in seen.failing.items() if row != SWITCH
    }
    return bool(seen.slow) or seen.recovered != seen.healthy or (works and store_failed)


def _observe(fault_name: str, adapter_name: str, on_error: str) -> Observation:
    adapter = ADAPTERS[adapter_name]
    fault = adapter.place.faults[fault_name]
    is_away = fault.kind == AWAY
    seen = Observation(fault.kind)
    site = adapter.place.open()
    benches = [
        Bench(adapter, site, db, on_error=on_error, failures=failures)
        for db, failures in ((0, 0), (1, 1))[: 2 if is_away else 1]
    ]
    patient, quick = benches[0], benches[-1]
    try:
        patient.prepare()
        seen.healthy = patient.run(slow=seen.slow)
        for bench in benches:
            bench.prepare()
        with fault.works(site) as strike:
            if is_away:
                for bench in benches if adapter.place.loses_trust else ():
                    bench.await_distrust()
                quick.open_breaker()
                seen.opened = quick.run(
                    slow=seen.slow, is_away=True, limit_s=OPEN_LIMIT_S
                )
            if fault.kind == BUS_AWAY:
                patient.await_distrust()
            seen.failing = patient.run(
                slow=seen.slow,
                is_away=is_away,
                strike=strike,
                is_precise=fault_name == CUT_WITHIN,
            )
            for bench in benches:
                bench.write_elsewhere()
        for bench in benches:
            bench.settle()
            seen.stale += bench.stale()
        patient.prepare()
        seen.recovered = patient.run(slow=seen.slow)
        for bench in benches:
            health = bench.cache.health()
            if fault.kind != PASSES and not health.ok:
                seen.unwell.append(repr(health))
    finally:
        for bench in benches:
            bench.close()
        site.close()
    return seen


SIDE_BY_SIDE: Final = 4
"""Observations at a time: they mostly wait."""

Observed = dict[tuple[str, str], "Future[Observation]"]


def observe_all(
    on_error: str, wanted: Collection[tuple[str, str]] | None = None
) -> Observed:
    """Begin to observe all pairs of fault and adapter, or those that are wanted."""
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    futures = {
        pair: pool.submit(observe, *pair, on_error)
        for pair in PAIRS
        if wanted is None or pair in wanted
    }
    pool.shutdown(wait=False)
    return futures
