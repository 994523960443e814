"""Judges a history: some order of the writes must explain every read.

Soundness first: it accuses only where no order does.  A write takes effect at some
instant between its begin and its end; one without an answer at any time after its
begin, or until the moment from which nothing of it can be under way any more
(``settle``).  So of two writes the later is known only if one ended before the other
began, and a value is *superseded* once a write that began after the value's own write
had ended has ended itself, or has been seen.

Each rule then compares the last instant at which a read's value can have been written
with what must have happened before the read began:

* ``never-written``  no write of what was read had begun
* ``strict``         a call that asks the server saw what was superseded before it began
* ``too-old``        the value was superseded longer than the bound before the read
* ``went-back``      this process itself had written, or read, something newer before
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.proofs.processes.history import ABSENT, PRESENT, UNKNOWN, Read, Write
from tests.proofs.processes.values import base_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.proofs.processes.history import KeyHistory, Seen

LONG_AGO: Final = float("-inf")
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Violation:
    """A read that no order of the writes explains, with the calls that prove it."""

    rule: str
    key: str
    text: str
    proof: tuple[object, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.key}: {self.text}"]
        return "\n".join([*lines, *(f"    {call}" for call in self.proof)])


@dataclass(slots=True)
class Verdict:
    """Violations, and how old what was read had become at most."""

    violations: list[Violation] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    """By how much each read that was not current came after the superseding."""
    reads: int = 0


@dataclass(slots=True)
class Span:
    """When a value can have been written: by one write, or by several alike."""

    begin: float
    end: float
    writes: list[Write]


class KeyChecker:
    """Checks the reads of one key."""

    def __init__(
        self, key: str, history: KeyHistory, *, bound_s: float, is_counter: bool
    ) -> None:
        self._key = key
        self._bound_s = bound_s
        self._is_counter = is_counter
        self._reads = sorted(history.reads, key=lambda read: read.begin)
        self._writes = history.writes
        self._spans = self._find_spans()
        self._lost = [write for write in self._writes if write.value == UNKNOWN]
        self._absences = _Candidates(w for w in self._writes if w.value is ABSENT)
        self._presences = _Candidates(w for w in self._writes if w.value is not ABSENT)
        self._superseders = self._find_superseders()

    def check(self) -> Verdict:
        """Apply every rule to every read."""
        verdict = Verdict(reads=len(self._reads))
        by_worker: dict[int, list[Read]] = defaultdict(list)
        for read in self._reads:
            by_worker[read.worker].append(read)
            self._check_age(read, verdict)
        for worker, reads in by_worker.items():
            verdict.violations += self._check_session(worker, reads)
        if self._is_counter:
            verdict.violations += self._check_increments()
        return verdict

    # -- when a value can have been written ---------------------------------------

    def _find_spans(self) -> dict[Seen, Span]:
        spans: dict[Seen, Span] = {}
        for write in self._writes:
            if write.value in {ABSENT, UNKNOWN}:
                continue
            span = spans.get(write.value)
            if span is None:
                spans[write.value] = Span(write.begin, write.end, [write])
            else:
                span.begin = min(span.begin, write.begin)
                span.end = max(span.end, write.end)
                span.writes.append(write)
        return spans

    def _span(self, seen: Seen) -> Span | None:
        """Return when ``seen`` can have been written, None if it never was."""
        span = self._spans.get(seen)
        if not self._is_counter or not self._lost or not isinstance(seen, int):
            return span
        base = self._spans.get(base_of(seen))
        if base is None or seen == base_of(seen):
            return span
        # Increments without an answer may have made this number; a second time, too,
        # if the counter can have been set to its base again after the first.
        lost_end = max(write.end for write in self._lost)
        if span is None:
            begin = max(base.begin, min(write.begin for write in self._lost))
            return Span(begin, lost_end, [*base.writes, *self._lost])
        if base.end >= span.begin:
            return Span(span.begin, max(span.end, lost_end), span.writes)
        return span

    def _latest(self, read: Read) -> tuple[float, Sequence[object]]:
        """Return the last instant at which what was read can have been written.

        LONG_AGO - or less than nothing - means that it was not written at all.
        """
        if read.seen is ABSENT:
            return self._absences.latest(read.end)
        if read.seen == PRESENT:
            return self._presences.latest(read.end)
        span = self._span(read.seen)
        if span is None or span.begin > read.end:
            return LONG_AGO, () if span is None else span.writes
        return span.end, span.writes

    # -- when it was superseded ---------------------------------------------------

    def _find_superseders(self) -> _Superseders:
        """Sure writes, and values that were seen: they surely were on the server."""
        found: list[tuple[float, float, object]] = [
            (write.begin, write.end, write.op)
            for write in self._writes
            if write.is_sure
        ]
        first_seen: dict[Seen, Read] = {}
        for read in self._reads:
            if isinstance(read.seen, int) and read.shows_server:
                known = first_seen.get(read.seen)
                if known is None or read.end < known.end:
                    first_seen[read.seen] = read
        for seen, read in first_seen.items():
            span = self._span(seen)
            if span is not None:
                found.append((span.begin, read.end, read.op))
        return _Superseders(found)

    # -- the rules ------------------------------------------------------------------

    def _check_age(self, read: Read, verdict: Verdict) -> None:
        latest, origin = self._latest(read)
        if latest == LONG_AGO:
            verdict.violations.append(
                self._violation("never-written", read, "was never written", origin)
            )
            return
        superseded_at, proof = self._superseders.after(latest)
        age_s = read.begin - superseded_at
        if age_s <= 0:
            return
        if not read.is_strict:
            verdict.ages.append(age_s)
        if read.is_strict:
            text = f"asked the server, yet superseded {age_s:.4f} s before"
            violation = self._violation("strict", read, text, origin, proof)
        elif age_s > self._bound_s:
            text = f"superseded {age_s:.4f} s before (bound {self._bound_s} s)"
            violation = self._violation("too-old", read, text, origin, proof)
        else:
            return
        verdict.violations.append(violation)

    def known_at(self, write: Write) -> float | None:
        """Return from when on its process may read nothing older than the write."""
        return write.end if write.is_sure else None

    def _check_session(self, worker: int, reads: list[Read]) -> list[Violation]:
        """Return reads of one process that are older than what it knew before."""
        known: list[tuple[float, float, int, object]] = [
            (known_at, write.begin, number, write.op)
            for number, write in enumerate(self._writes)
            if write.worker == worker and (known_at := self.known_at(write)) is not None
        ]
        heapq.heapify(known)
        floor, proof = LONG_AGO, None
        absences = self._absences.ascending()
        violations = []
        for number, read in enumerate(reads, len(self._writes)):
            while known and known[0][0] < read.begin:
                _, begin, _, op = heapq.heappop(known)
                if begin > floor:
                    floor, proof = begin, op
            latest, origin = self._latest(read)
            if latest == LONG_AGO:
                continue
            if latest < floor:
                text = f"the process knew better {read.begin - floor:.4f} s before"
                violations.append(
                    self._violation("went-back", read, text, origin, proof)
                )
                continue
            if read.seen is ABSENT and read.is_strict:
                # The server has told it: it is no older than the read.
                learned = absences(max(floor, self._superseders.floor(read.begin)))
            elif isinstance(read.seen, int) and read.shows_server:
                span = self._span(read.seen)
                learned = LONG_AGO if span is None else span.begin
            else:
                continue
            heapq.heappush(known, (read.end, learned, number, read.op))
        return violations

    def _check_increments(self) -> list[Violation]:
        """No two increments may return the same number (I13)."""
        violations = []
        for count, span in self._spans.items():
            increments = [w for w in span.writes if getattr(w.op, "kind", "") == "incr"]
            if len(increments) < 2 or not isinstance(count, int):
                continue
            base = self._spans.get(base_of(count))
            # Setting the base may be sent twice within its call, which starts again.
            if base is None or base.end < min(w.begin for w in increments):
                text = f"{len(increments)} increments returned {count}"
                proof = tuple(write.op for write in increments)
                violations.append(Violation("lost-increment", self._key, text, proof))
        return violations

    def _violation(
        self,
        rule: str,
        read: Read,
        text: str,
        origin: Sequence[object],
        proof: object = None,
    ) -> Violation:
        calls = [getattr(write, "op", write) for write in list(origin)[-3:]]
        if proof is not None:
            calls.append(proof)
        calls.append(read.op)
        return Violation(rule, self._key, f"{read.seen!r} {text}", tuple(calls))


class _Candidates:
    """The writes that may have left the key in one state that many writes leave."""

    def __init__(self, writes: Iterable[Write]) -> None:
        self._writes = sorted(writes, key=lambda write: write.begin)
        self._begins = [write.begin for write in self._writes]
        self._last: list[Write] = []
        for write in self._writes:
            best = self._last[-1] if self._last else write
            self._last.append(write if write.end > best.end else best)

    def latest(self, until: float) -> tuple[float, Sequence[object]]:
        """Return the latest end among those that began by ``until``."""
        count = bisect_right(self._begins, until)
        if not count:
            return LONG_AGO, ()
        return self._last[count - 1].end, (self._last[count - 1],)

    def ascending(self) -> Callable[[float], float]:
        """Make a function of a rising floor: the first begin of what may lie above."""
        at = 0

        def first_above(floor: float) -> float:
            nonlocal at
            while at < len(self._writes) and self._writes[at].end < floor:
                at += 1
            return self._writes[at].begin if at < len(self._writes) else LONG_AGO

        return first_above


class _Superseders:
    """Finds the earliest end among all that began after an instant."""

    def __init__(self, found: list[tuple[float, float, object]]) -> None:
        found.sort(key=lambda each: each[0])
        self._begins = [begin for begin, _, _ in found]
        self._first: list[tuple[float, object]] = []
        best: tuple[float, object] = (NEVER, None)
        for _, end, op in reversed(found):
            if end < best[0]:
                best = (end, op)
            self._first.append(best)
        self._first.reverse()
        found.sort(key=lambda each: each[1])
        self._ends = [end for _, end, _ in found]
        begins = (begin for begin, _, _ in found)
        self._floors = list(itertools.accumulate(begins, max))

    def after(self, instant: float) -> tuple[float, object]:
        """Return when something newer than ``instant`` was surely there, and what."""
        at = bisect_right(self._begins, instant)
        return self._first[at] if at < len(self._first) else (NEVER, None)

    def floor(self, instant: float) -> float:
        """Return before when nothing was written that was there at ``instant``."""
        count = bisect_left(self._ends, instant)
        return self._floors[count - 1] if count else LONG_AGO


def check(
    histories: dict[str, KeyHistory],
    *,
    bound_s: float,
    counters: Sequence[str],
    checker_class: type[KeyChecker] = KeyChecker,
) -> Verdict:
    """Check all keys; ``bound_s`` is how old a read may be."""
    total = Verdict()
    for key, history in sorted(histories.items()):
        checker = checker_class(
            key, history, bound_s=bound_s, is_counter=key in counters
        )
        verdict = checker.check()
        total.violations += verdict.violations
        total.ages += verdict.ages
        total.reads += verdict.reads
    return total
