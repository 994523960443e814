"""The faults, in random order: one lane for the server, one for workers and proxies.

Each counts only when it has met what it is about: connections cut, requests held, a
write that failed while it was held back.  What has not fired by the end of the load is
tried again until a deadline; what still has not fails the run.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.proofs.processes.timeline import SERVER, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.fleet import Fleet, Process

SOCKET_TIMEOUT_S: Final = 0.5
BUS_TRUST_S: Final = 1.0
TARDY_S: Final = 60.0
"""For so long after the load's time faults that have not fired are tried again.

It is the end of patience, not of the run: that ends when each has fired.
"""

STRIKE: Final = "strike_threads"
LAST_STRIKE_S: Final = 0.3


class Lane:
    """Faults that never overlap each other, each again and again in random order."""

    def __init__(self, timeline: Timeline, seed: str) -> None:
        self.timeline = timeline
        self.random = random.Random(seed)
        self.faults: dict[str, Callable[[], bool]] = {}
        self.twice: tuple[str, ...] = ()
        """Faults that come twice as often as the others."""
        self.error: BaseException | None = None

    def run(self, until: float) -> None:
        """Deal the faults like cards until the time is over and each has fired."""
        try:
            deck: list[str] = []
            while time.monotonic() < until + TARDY_S:
                if time.monotonic() >= until:
                    missing = self.missing()
                    if not missing:
                        return
                    deck = missing
                if not self.faults:
                    return
                if not deck:
                    deck = [*self.faults, *self.twice]
                    self.random.shuffle(deck)
                name = deck.pop()
                self.timeline.fired[name] += self.faults[name]()
                time.sleep(self.random.uniform(0.1, 0.5))
        except BaseException as exc:
            self.error = exc

    def missing(self) -> list[str]:
        """Name the faults that have not fired."""
        return [name for name in self.faults if not self.timeline.fired[name]]

    def keep_only(self, names: Collection[str]) -> None:
        """Leave all other faults out."""
        self.faults = {n: fault for n, fault in self.faults.items() if n in names}
        self.twice = ()

    def leave_out(self, name: str) -> None:
        """Do without one fault."""
        del self.faults[name]
        self.twice = tuple(each for each in self.twice if each != name)

    def start(self, until: float) -> threading.Thread:
        """Run in a thread of its own."""
        thread = threading.Thread(target=self.run, args=(until,), daemon=True)
        thread.start()
        return thread


class ServerLane(Lane):
    """What happens to the server, and so to all workers at once."""

    def __init__(self, timeline: Timeline, seed: str, server: RedisServer) -> None:
        super().__init__(timeline, seed)
        self._server = server
        self.faults = {
            "kill_subscriptions": self._kill_subscriptions,
            "pause_server_briefly": self._pause_briefly,
            "pause_server_beyond_trust": self._pause_beyond_trust,
            "restart_server_empty": self._restart_empty,
        }

    def _kill_subscriptions(self) -> bool:
        """CLIENT KILL TYPE pubsub, up to three times in a row."""
        killed = 0
        with (
            self.timeline.fault("kill_subscriptions", SERVER),
            redis.Redis(
                port=self._server.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)
            ) as client,
        ):
            for _ in range(self.random.randint(1, 3)):
                killed += client.client_kill_filter(_type="pubsub")
                time.sleep(self.random.uniform(0, 0.1))
        return killed > 0

    def _pause_briefly(self) -> bool:
        return self._pause("pause_server_briefly", self.random.uniform(0.05, 0.4))

    def _pause_beyond_trust(self) -> bool:
        longer_s = BUS_TRUST_S + self.random.uniform(0.2, 0.6)
        return self._pause("pause_server_beyond_trust", longer_s)

    def _pause(self, name: str, seconds: float) -> bool:
        with self.timeline.fault(name, SERVER, holds_back=True):
            self._server.pause()
            time.sleep(seconds)
            self._server.resume()
        return True

    def _restart_empty(self) -> bool:
        with self.timeline.fault("restart_server_empty", SERVER, holds_back=True):
            self._server.kill()
            self.timeline.deaths.append(time.monotonic())
            time.sleep(self.random.choice((0.0, 0.0, 0.3, 1.2)))
            self._server.restart()
        return True


class WorkerLane(Lane):
    """What happens to one worker or on its way to the server."""

    def __init__(self, timeline: Timeline, seed: str, fleet: Fleet) -> None:
        super().__init__(timeline, seed)
        self._fleet = fleet
        self.faults = {
            "pause_worker": self._pause_worker,
            "kill_worker": self._kill_worker,
            "delay": self._delay,
            "cut": self._cut,
            "cut_and_refuse": self._cut_and_refuse,
            "silence": self._silence,
            "silence_beyond_trust": self._silence_beyond_trust,
            "half_close": self._half_close,
            "truncate": self._truncate,
            "late_write": self._late_write,
        }
        if any(process.has_threads for process in fleet.processes):
            self.faults[STRIKE] = self._strike_threads
        self.twice = ("cut_and_refuse", "late_write")

    def _strike_threads(self) -> bool:
        """Let exceptions strike threads in their calls: a request may have gone out."""
        process = self.random.choice(
            [each for each in self._fleet.processes if each.has_threads]
        )
        with self.timeline.fault(STRIKE, process.slot):
            process.tell("strike")
            return bool(process.answer()["struck"])

    def _pick(self) -> Process:
        return self.random.choice(self._fleet.processes)

    def _pause_worker(self) -> bool:
        process = self._pick()
        with self.timeline.fault("pause_worker", process.slot):
            process.pause()
            time.sleep(self.random.choice((0.1, 0.4, BUS_TRUST_S + 0.3)))
            process.resume()
        return True

    def _kill_worker(self) -> bool:
        process = self._pick()
        with self.timeline.fault("kill_worker", process.slot):
            self._fleet.replace(process)
        return True

    @contextmanager
    def _through(
        self, process: Process, name: str, *, holds_back: bool
    ) -> Iterator[None]:
        """Leave the process's proxy as it was, whatever happens."""
        with self.timeline.fault(name, process.slot, holds_back=holds_back):
            try:
                yield
            finally:
                process.proxy.restore()

    def _fires(
        self, name: str, seconds: float, fault: str = "", *, holds_back: bool = False
    ) -> bool:
        """Let a fault of the proxy work for a while; return whether it met traffic."""
        process = self._pick()
        proxy, fault = process.proxy, fault or name
        before = proxy.fired[fault]
        arguments: dict[str, tuple[float, ...]] = {
            "delay": (self.random.uniform(0.005, 0.08),),
            "truncate": (self.random.randint(0, 400),),
        }
        with self._through(process, name, holds_back=holds_back):
            getattr(proxy, fault)(*arguments.get(fault, ()))
            time.sleep(seconds)
        return proxy.fired[fault] > before

    def _delay(self) -> bool:
        return self._fires("delay", self.random.uniform(0.3, 1.0), holds_back=True)

    def _cut(self) -> bool:
        return self._fires("cut", 0.0)

    def _half_close(self) -> bool:
        return self._fires("half_close", 0.05)

    def _truncate(self) -> bool:
        return self._fires("truncate", 0.2)

    def _silence(self) -> bool:
        seconds = self.random.uniform(0.1, 0.8)
        return self._fires("silence", seconds, holds_back=True)

    def _silence_beyond_trust(self) -> bool:
        seconds = BUS_TRUST_S + self.random.uniform(0.2, 1.0)
        return self._fires("silence_beyond_trust", seconds, "silence", holds_back=True)

    def _cut_and_refuse(self) -> bool:
        """Some hear nothing of what the others write, and cannot ask either.

        Mostly just before a rest: what they missed then stays as it is for a while.
        """
        count = self.random.randint(1, len(self._fleet.processes) - 1)
        if self.random.random() < 0.7:
            wait_s = self._fleet.rhythm.until_rest_s() - self.random.uniform(0.1, 0.4)
            time.sleep(max(0.0, wait_s))
        return self._cut_off(count, self.random.uniform(0.2, 0.7))

    def _cut_off(self, count: int, seconds: float) -> bool:
        with ExitStack() as ending:
            proxies = []
            chosen = self.random.sample(self._fleet.processes, count + 1)
            writer = chosen.pop()
            for process in chosen:
                ending.enter_context(
                    self._through(process, "cut_and_refuse", holds_back=False)
                )
                proxies.append(process.proxy)
            before = [proxy.fired for proxy in proxies]
            for proxy in proxies:
                proxy.refuse()
                proxy.cut()
            time.sleep(seconds / 2)
            writer.tell("write_cold")
            writer.answer()
            time.sleep(seconds / 2)
        return any(
            p.fired["cut"] > b["cut"] for p, b in zip(proxies, before, strict=True)
        )

    def strike_last(self) -> None:
        """Leave only one connected at the very end: no later message heals a thing."""
        fired = self._cut_off(len(self._fleet.processes) - 1, LAST_STRIKE_S)
        self.timeline.fired["cut_at_the_end"] += fired

    def _late_write(self) -> bool:
        """Hold requests until a write has timed out, then let the server have it."""
        process = self._pick()
        with self._through(process, "late_write", holds_back=True):
            mark = process.count_failed_writes()
            process.proxy.hold_requests()
            time.sleep(SOCKET_TIMEOUT_S + self.random.uniform(0.2, 0.6))
            failed = process.count_failed_writes() - mark
            released = process.proxy.release_held()
        return failed > 0 and released > 0


def heal(server: RedisServer, fleet: Fleet) -> None:
    """End every fault that an interrupted lane may have left."""
    with contextlib.suppress(Exception):
        server.resume()
    for process in fleet.processes:
        process.resume()
        process.proxy.restore()
