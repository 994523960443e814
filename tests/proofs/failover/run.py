"""Processes under load over Sentinel, failovers at random, and the judgement.

Times are of one machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import redis

from cachebridge.testing import sentinel_group
from tests.children import Child
from tests.proofs.failover.worker import keys_of
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer, SentinelGroup

PROCESSES: Final = 3
PROMISED_S: Final = 3.0
"""Within this time of the promotion each process writes to the new master."""
STARVED_S: Final = 3.0
"""What a machine that is busy elsewhere may add: threads that are due do not run."""
TRUST_S: Final = 2.0
"""BUS_TRUST, after which L1 says nothing that it cannot prove."""


class Answer(NamedTuple):
    """One line of a worker."""

    kind: str
    key: str
    number: int
    begin: float
    end: float


class Calm(NamedTuple):
    """A time in which all processes use one master."""

    begin: float
    end: float


class Fleet:
    """The processes and their histories; the last process has no L1."""

    def __init__(
        self, group: SentinelGroup, directory: Path, running: ExitStack
    ) -> None:
        self._directory = directory
        self._children = []
        for number in range(PROCESSES):
            entries = 0 if number == PROCESSES - 1 else 1000
            output = running.enter_context((directory / f"{number}").open("wb"))
            words = (group.url, str(number), str(PROCESSES), str(entries))
            child = Child(
                [sys.executable, "-m", "tests.proofs.failover.worker", *words],
                stdin=subprocess.PIPE,
                stdout=output,
            )
            running.callback(child.end)
            self._children.append(child)

    def answers(self) -> list[Answer]:
        """End the processes, and return what they were answered."""
        for child in self._children:
            child.stdin.close()
            child.wait(30)
            child.stdin = None
        return [
            Answer(kind, key, int(number), float(begin), float(end))
            for path in sorted(self._directory.iterdir())
            for kind, key, number, begin, end in map(
                str.split, path.read_text().splitlines()
            )
        ]


def values_at(server: RedisServer) -> dict[str, tuple[int, float]]:
    """Return the number and the time of what each writer has written last there."""
    found = {}
    with redis.Redis(port=server.port) as client:
        for key in keys_of(PROCESSES):
            raw = client.get(f"p:{key}")
            if raw is not None:
                found[key] = pickle.loads(raw)
    return found


def wait_for_all(server: RedisServer, since: float) -> float:
    """Wait until each writer has written there after an instant; return how long."""

    def all_have() -> bool:
        found = values_at(server)
        return len(found) == len(keys_of(PROCESSES)) and all(
            begin > since for _, begin in found.values()
        )

    eventually(all_have, f"{len(keys_of(PROCESSES))} writers at the new master")
    return time.monotonic() - since


def stale_reads(answers: list[Answer], calm: Calm) -> tuple[list[Answer], int]:
    """Return the reads that were too old, and how many were judged.

    A write that was confirmed in the calm supersedes all earlier ones of its key.
    """
    confirmed: dict[str, dict[int, float]] = defaultdict(dict)
    for each in answers:
        if each.kind == "w" and calm.begin < each.end < calm.end:
            confirmed[each.key][each.number] = each.end
    first: dict[str, list[tuple[int, float]]] = {}
    for key, writes in confirmed.items():  # the earliest end of this or a later number
        earliest, found = float("inf"), []
        for number in sorted(writes, reverse=True):
            earliest = min(earliest, writes[number])
            found.append((number, earliest))
        first[key] = found[::-1]
    stale, judged = [], 0
    for each in answers:
        if each.kind == "r" and calm.begin < each.begin < calm.end:
            judged += 1
            known = first.get(each.key, [])
            later = next((end for number, end in known if number > each.number), None)
            if later is not None and each.begin - later > TRUST_S + STARVED_S:
                stale.append(each)
    return stale, judged


@dataclass
class Outcome:
    """What a run found."""

    seed: int
    fired: Counter[str] = field(default_factory=Counter)
    lasted_s: list[float] = field(default_factory=list)
    """From each promotion until every writer wrote to the new master."""
    stale: list[Answer] = field(default_factory=list)
    judged: int = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing was too old, and all followed in time."""
        in_time = all(each < PROMISED_S + STARVED_S for each in self.lasted_s)
        return in_time and not self.stale and self.judged > 0

    def lines(self) -> Iterator[str]:
        """Tell everything worth knowing."""
        yield f"seed {self.seed}: failovers {dict(self.fired)}, {self.judged} reads"
        yield "all at the new master after (s): " + ", ".join(
            f"{each:.2f}" for each in self.lasted_s
        )
        yield f"{len(self.stale)} reads were too old"
        yield from map(str, self.stale[:20])


class Failovers:
    """What happens to the servers, at random."""

    def __init__(self, group: SentinelGroup, seed: int) -> None:
        self._group = group
        self._random = random.Random(seed)
        self._faults = {
            "command": self._command,
            "kill": self._kill,
            "pause": self._pause,
            "kill_with_sentinel": self._kill_with_sentinel,
        }

    def strike(self) -> tuple[str, RedisServer]:
        """Let a replica be promoted somehow; return how, and the new master."""
        how = self._random.choice(sorted(self._faults))
        return how, self._faults[how]()

    def _command(self) -> RedisServer:
        return self._group.failover()

    def _kill(self) -> RedisServer:
        old = self._group.master()
        old.kill()
        new = self._group.promoted(old)
        old.restart()
        return new

    def _pause(self) -> RedisServer:
        old = self._group.master()
        old.pause()
        new = self._group.promoted(old)
        old.resume()
        return new

    def _kill_with_sentinel(self) -> RedisServer:
        sentinel = self._random.choice(self._group.sentinels)
        sentinel.kill()
        new = self._kill()
        sentinel.restart()
        return new


def run(*, seed: int, seconds: float) -> Outcome:
    """Run once; what it finds is in the outcome."""
    outcome, calms = Outcome(seed), []
    with (
        tempfile.TemporaryDirectory(prefix="cachebridge-run-") as directory,
        ExitStack() as running,
        sentinel_group(replicas=2) as group,
    ):
        fleet = Fleet(group, Path(directory), running)
        failovers = Failovers(group, seed)
        wait_for_all(group.master(), time.monotonic())
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            how, new = failovers.strike()
            outcome.fired[how] += 1
            promoted = time.monotonic()
            outcome.lasted_s.append(wait_for_all(new, promoted))
            begin = time.monotonic() + TRUST_S
            group.wait_until_ready()
            time.sleep(TRUST_S + STARVED_S)  # load, to be judged
            calms.append(Calm(begin, time.monotonic()))
        answers = fleet.answers()
    for calm in calms:
        stale, judged = stale_reads(answers, calm)
        outcome.stale += stale
        outcome.judged += judged
    return outcome
