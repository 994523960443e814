"""Lets every case of an adapter meet a fault, and writes down what came of it.

Three phases: the breaker closed yet (one cache has it switched off), the breaker open
(another cache, on another database), and recovered.  The cases of a phase run side by
side, each on keys of its own, since most of them wait for a timeout.
"""

from __future__ import annotations

import functools
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import redis

from cachebridge.errors import L2Error
from tests.outages.adapters import ADAPTERS
from tests.outages.cases import (
    CHANGED,
    COUNT,
    FAR,
    HELD,
    NEW,
    Asked,
    Keys,
    words_of,
)
from tests.outages.site import (
    AWAY,
    CONNECT_TIMEOUT_S,
    FAULTS,
    PASSES,
    SOCKET_TIMEOUT_S,
    Site,
)
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future

    from tests.outages.adapters import Adapter
    from tests.outages.cases import Case

DEADLINE_S: Final = CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S
"""For one round trip; a call may make one more to pay deletes that are owed."""
SLACK_S: Final = 1.5
"""What a busy machine may add."""
OPEN_LIMIT_S: Final = 0.5
"""Far less than a timeout on a quiet machine; here it only has to be no timeout."""
OPTIONS: Final[dict[str, Any]] = {
    "bus_trust": 1.0,
    "bus_heartbeat": 0.1,
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "lease_ttl": 1.0,
}
AWHILE: Final = 600.0
PREFIXES: Final = ("p", "q")
SWEPT: Final = "swept"

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
        self, adapter: Adapter, site: Site, db: int, *, on_error: str, failures: int
    ) -> None:
        self.adapter = adapter
        self._raw = site.client(db)
        self._is_degrading = on_error == "degrade"
        options = {
            **OPTIONS,
            "on_error": on_error,
            "breaker_failures": failures,
            "breaker_retry": AWHILE,
        }
        near, far = site.location(db), site.location(db, direct=True)
        self.cache, self.swept = [adapter.make(near, p, **options) for p in PREFIXES]
        self.peer, self._peer_swept = [
            adapter.make(far, prefix, **options) for prefix in PREFIXES
        ]
        # L1 off and on again would hide an entry that should not be there.
        self.switched = adapter.make(site.location(db + 2), PREFIXES[0], **options)
        self.owed: set[str] = set()
        self._offset = 0
        engine = self.engine = self.cache._binding.engine
        owe = engine.outage.debts.owe

        def noting(keys: Any, pattern: Any) -> None:
            self.owed.update(keys)
            owe(keys, pattern)

        engine.outage.debts.owe = noting

    def close(self) -> None:
        """Stop both engines."""
        for cache in (self.cache, self.peer, self.switched):
            self.adapter.forget(cache)

    # -- before ------------------------------------------------------------------------

    def prepare(self) -> None:
        """Put the keys of every case where they belong."""
        self._offset += len(self.adapter.cases)
        self.owed.clear()
        self.settle()
        groups = [self._keys(number) for number in range(len(self.adapter.cases))]
        values: dict[str, Any] = {}
        for keys in groups:
            values |= {keys.held: HELD, keys.far: FAR, keys.count: COUNT}
            values |= {keys.excluded: FAR}
        assert not self.peer.set_many(values)
        held = [keys.held for keys in groups]
        full_keys = [self._full_key(key) for key in held]
        self._peer_swept.set(SWEPT, HELD)

        def are_held() -> bool:
            self.cache.get_many(held)
            self.swept.get(SWEPT)
            return all(key in self.engine.l1.entries for key in full_keys)

        eventually(are_held)
        time.sleep(0.02)  # what the peer wrote has been told by now
        assert self.cache.get_many(held) == dict.fromkeys(held, HELD)
        eventually(are_held)
        for key in full_keys:
            self._raw.set(key, pickle.dumps(CHANGED))

    def _full_key(self, key: str, prefix: str = PREFIXES[0]) -> str:
        return self.adapter.full_key(prefix, key)

    def _keys(self, number: int) -> Keys:
        return Keys.of(self._offset + number)

    def await_distrust(self) -> None:
        """Wait until L1 would have to ask."""
        eventually(lambda: not self.cache.stats().trusted)

    def open_breaker(self) -> None:
        """Let one call fail."""
        for cache in (self.cache, self.switched):
            with suppress(L2Error):
                cache.get("opener")
            assert cache._binding.engine.breaker.is_open

    # -- the cases ---------------------------------------------------------------------

    def run(
        self,
        *,
        slow: list[str],
        is_away: bool = False,
        limit_s: float | None = None,
        strike: Callable[[], object] | None = None,
    ) -> Answers:
        """Run every case; return the answers in words."""
        cases = list(enumerate(self.adapter.cases))
        first = [each for each in cases if not each[1].comes_last]
        answers: Answers = {}

        def one(numbered: tuple[int, Case]) -> None:
            number, case = numbered
            if strike is not None and not case.comes_last:
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
                self.owed,
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
            with ThreadPoolExecutor(len(first)) as pool:
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
            eventually(lambda: _is_well(cache), 10.0)  # noqa: B023 waited for at once

    def stale(self) -> list[str]:
        """Compare every key, as each process sees it, with Redis itself."""
        wrong: list[str] = []

        def all_agree() -> bool:
            try:
                wrong[:] = self._disagreements()
            except L2Error as exc:  # a slow machine: asked again, not forgiven
                wrong[:] = [f"not answered: {exc}"]
            return not wrong

        with suppress(AssertionError):
            eventually(all_agree, 3.0)
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
            raw = self._raw.get(self._full_key(key, prefix))
            truth = None if raw is None else _decoded(raw)
            for name, reader in (("cache", cache), ("peer", peer)):
                seen = [reader.get(key) for _ in range(2)]
                if seen != [truth] * 2:
                    yield f"{name} has {seen} as {key}, Redis has {truth!r}"


def _decoded(raw: bytes) -> Any:
    return int(raw) if raw.isdigit() else pickle.loads(raw)


def _is_well(cache: Any) -> bool:
    for _ in range(3):  # the first few reads start the listener
        with suppress(L2Error):
            cache.get("nobody-sets-this")
    health = cache.health()
    return (
        health.l2_reachable
        and health.l1_trusted
        and not health.breaker_open
        and not health.deletes_owed
    )


@functools.cache
def observe(fault_name: str, adapter_name: str, on_error: str) -> Observation:
    """Return what happens; observed once in a run, however many ask.

    Once more if this machine was too busy for it, which what is wrong survives.
    """
    with suppress(AssertionError, redis.RedisError):
        seen = _observe(fault_name, adapter_name, on_error)
        if seen.stale or not (seen.slow or seen.recovered != seen.healthy):
            return seen
    return _observe(fault_name, adapter_name, on_error)


def _observe(fault_name: str, adapter_name: str, on_error: str) -> Observation:
    fault, adapter = FAULTS[fault_name], ADAPTERS[adapter_name]
    is_away = fault.kind == AWAY
    seen = Observation(fault.kind)
    site = Site()
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
                for bench in benches:
                    bench.await_distrust()
                quick.open_breaker()
                seen.opened = quick.run(
                    slow=seen.slow, is_away=True, limit_s=OPEN_LIMIT_S
                )
            seen.failing = patient.run(slow=seen.slow, is_away=is_away, strike=strike)
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
    pairs = [(fault, adapter) for fault in FAULTS for adapter in ADAPTERS]
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    futures = {
        pair: pool.submit(observe, *pair, on_error)
        for pair in pairs
        if wanted is None or pair in wanted
    }
    pool.shutdown(wait=False)
    return futures
