"""Metrics of this process for Prometheus, also of gunicorn's workers together.

``start()`` begins a thread that adds every five seconds what the counters have grown
to metrics of prometheus-client.  No call of a cache touches them.  ``docs/metrics.md``
explains each.  Needs the extra ``prometheus``.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from cachebridge.contrib.families import GAUGES, PER_CACHE, PER_SERVER, numbers_of
from cachebridge.engine import registry as engines
from cachebridge.errors import ConfigError
from cachebridge.stats import DELAY_BOUNDS_S

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from cachebridge.engine.engine import Engine
    from cachebridge.stats import Counters

__all__ = ["Exporter", "start"]

EVERY_S: Final = 5.0
LEAST_EVERY_S: Final = 0.1

Seen = dict[tuple[str, ...], float]


DELAY: Final = "cachebridge_invalidation_delay_seconds"


class Exporter:
    """Keeps metrics of prometheus-client up to date.  Thread safe.

    Made by ``start``.
    """

    def __init__(self, registry: CollectorRegistry, every_s: float) -> None:
        self.registry, self.every_s = registry, every_s
        self._counters = [
            (
                family,
                Counter(
                    family.name,
                    family.text,
                    [
                        "server",
                        *(["cache"] if family in PER_CACHE else []),
                        family.label,
                    ],
                    registry=registry,
                ),
            )
            for family in (*PER_CACHE, *PER_SERVER)
        ]
        self._gauges = {
            name: Gauge(
                name, text, ["server"], registry=registry, multiprocess_mode="livesum"
            )
            for name, (text, _) in GAUGES.items()
        }
        self._delay = Histogram(
            DELAY,
            "Seconds from the sending of an invalidation to its handling.",
            ["server"],
            buckets=DELAY_BOUNDS_S,
            registry=registry,
        )
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._seen: WeakKeyDictionary[Engine, Seen] = WeakKeyDictionary()
        self._shown: set[str] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self) -> None:
        """Keep the thread out of prometheus-client's locks, for a fork."""
        self._lock.acquire()

    def let_go(self) -> None:
        """End that."""
        self._lock.release()

    @property
    def is_running(self) -> bool:
        """Whether it was started, here or in the process that forked this one."""
        return not self._stopped.is_set()

    def run(self) -> None:
        """Start the thread, if it does not run; in a forked child with no past."""
        if self._pid != os.getpid():
            self._begin()
        if self._thread is None or not self._thread.is_alive():
            self._stopped = threading.Event()
            self._thread = threading.Thread(
                target=self._keep_on, name="cachebridge-prometheus", daemon=True
            )
            self._thread.start()

    def _keep_on(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self.every_s):
            self.update()

    def stop(self) -> None:
        """Update the metrics a last time, and end the thread."""
        self._stopped.set()
        self.update()

    def update(self) -> None:
        """Add what the counters have grown since the last time; set the gauges."""
        if self._pid != os.getpid():
            return  # a fork without Python's hooks: it calls ``start`` itself
        with self._lock:
            alive = engines.engines()
            for engine in alive:
                self._add_growth(engine)
            self._set_gauges(alive)

    def _add_growth(self, engine: Engine) -> None:
        server, own = engine.location.label, engine.counters
        seen = self._seen.setdefault(engine, {})
        shares = tuple(own.shares.items())
        for name, counters in (("", own), *shares):
            for family, metric in self._counters:
                is_per_cache = family in PER_CACHE
                owner = (server, name) if is_per_cache else (server,)
                for label, number in numbers_of(family, counters):
                    grown = _grown(seen, (name, family.name, label), number)
                    if grown or name or not (shares and is_per_cache):
                        metric.labels(*owner, label).inc(grown)
        self._observe(server, own, seen)

    def _observe(self, server: str, counters: Counters, seen: Seen) -> None:
        """Add to the histogram; its public method takes one observation at a time."""
        histogram: Any = self._delay.labels(server)
        for index, number in enumerate(counters.delay_buckets):
            grown = _grown(seen, (DELAY, str(index)), number)
            histogram._buckets[index].inc(grown)  # noqa: SLF001 see above
        grown = _grown(seen, (DELAY, "sum"), counters.delay_sum_s)
        histogram._sum.inc(grown)  # noqa: SLF001

    def _set_gauges(self, alive: tuple[Engine, ...]) -> None:
        """Set each to the sum over this process's engines; of those gone to zero."""
        servers = {engine.location.label for engine in alive}
        for name, gauge in self._gauges.items():
            read = GAUGES[name][1]
            sums = dict.fromkeys(servers | self._shown, 0.0)
            for engine in alive:
                sums[engine.location.label] += read(engine)
            if name == "cachebridge_processes":
                sums = {server: min(1.0, number) for server, number in sums.items()}
            for server, number in sums.items():
                gauge.labels(server).set(number)
        self._shown |= servers


def _grown(seen: Seen, key: tuple[str, ...], now: float) -> float:
    """Return by how much a counter has grown; one that went back began anew."""
    before = seen.get(key, 0.0)
    seen[key] = now
    return now - before if now >= before else now


_exporters: dict[CollectorRegistry, Exporter] = {}
_starting = threading.Lock()


def start(
    *, every_s: float = EVERY_S, registry: CollectorRegistry | None = None
) -> Exporter:
    """Keep metrics of all caches of this process in ``registry``; once per process.

    ``every_s`` is the number of seconds between two updates; ``registry`` is
    prometheus-client's own unless given.  A second call returns the same exporter.  A
    process that is forked later goes on by itself; call it again where a fork runs no
    hooks of Python, as in uWSGI's ``postfork``.  Thread safe.

    Raises ConfigError for a time under a tenth of a second.
    """
    if not every_s >= LEAST_EVERY_S:
        raise ConfigError(
            f"every_s is {every_s!r}: give a number of seconds, {LEAST_EVERY_S} or more"
        )
    chosen = REGISTRY if registry is None else registry
    with _starting:
        exporter = _exporters.get(chosen)
        if exporter is None:
            exporter = _exporters[chosen] = Exporter(chosen, every_s)
        exporter.run()
    return exporter


def _stop_all() -> None:
    for exporter in tuple(_exporters.values()):
        exporter.stop()


def _before_fork() -> None:
    _starting.acquire()
    for exporter in _exporters.values():
        exporter.hold()


def _after_fork_in_parent() -> None:
    for exporter in _exporters.values():
        exporter.let_go()
    _starting.release()


def _after_fork_in_child() -> None:
    for exporter in _exporters.values():
        exporter.let_go()
        if exporter.is_running:
            exporter.run()
    _starting.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(_stop_all)
