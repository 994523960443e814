"""Workers that handle a trace: old ones, one that takes an old one's place, a cold one.

``python -m tests.proofs.processes.recycled`` prints the figures of docs/warm-up.md and
draws its plot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from benchmarks.traces.workloads import keys_of
from cachebridge.testing import redis_server
from tests.children import Child
from tests.proofs.processes.warm_worker import TRACE
from tests.rig import PATIENCE_S, PATIENT, lone_cache

PLOT = Path("docs/warm-up.png")
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
HALF, END = 20_000, 30_000
SHOWN = 5_000
CAPACITY = 2_000
WINDOW = 200
OPTIONS = {**PATIENT, "l1_ttl": 3600, "l1_max_entries": CAPACITY, "timeout": None}


class Told(NamedTuple):
    """For each request of the second half whether L1 has answered it, by worker."""

    warmed: int
    sibling: list[int]
    recycled: list[int]
    cold: list[int]

    def needed(self, hits: list[int]) -> int:
        """Count the requests before the window with 90 % of the sibling's hits."""
        ours, theirs = ([0, *accumulate(each)] for each in (hits, self.sibling))
        for at in range(len(hits) - WINDOW):
            mine, wanted = (each[at + WINDOW] - each[at] for each in (ours, theirs))
            if mine >= 0.9 * wanted:
                return at
        return len(hits)

    def __str__(self) -> str:
        """Return the figures, a line for each worker."""
        lines = [
            f"{name}: {self.needed(hits)} requests until 90 % of the sibling's hits; "
            f"{sum(hits[:1000]) / 1000:.3f} of the first 1,000"
            for name, hits in self._asdict().items()
            if name != "warmed"
        ]
        return "\n".join([f"{self.warmed} entries read ahead", *lines])


class Worker:
    """A process that handles requests."""

    def __init__(self, url: str, *, warm: bool) -> None:
        options = json.dumps({**OPTIONS, "l1_warm": warm})
        module = "tests.proofs.processes.warm_worker"
        self.child = Child([sys.executable, "-m", module, url, options], **PIPES)
        self.warmed = json.loads(self.child.line())

    def handle(self, first: int, last: int) -> list[int]:
        """Return for each of these requests whether L1 has answered it."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{first} {last}\n")
        self.child.stdin.flush()
        hits: list[int] = json.loads(self.child.line())
        return hits

    def exit(self) -> None:
        """Let it go as a recycled worker does."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        assert self.child.wait(PATIENCE_S) == 0


def observe(url: str) -> Told:
    """Let four workers handle the trace; the values are in L2 from the beginning."""
    requests = keys_of(TRACE)[:END]
    lone_cache(url, timeout=None).set_many({f"product:{n}": n for n in requests})
    workers: list[Worker] = []

    def begin(*, warm: bool) -> Worker:
        workers.append(Worker(url, warm=warm))
        return workers[-1]

    try:
        old = begin(warm=True)
        old.handle(0, HALF)
        old.exit()
        sibling = begin(warm=False)
        sibling.handle(0, HALF)
        recycled, cold = begin(warm=True), begin(warm=False)
        told = [each.handle(HALF, END) for each in (sibling, recycled, cold)]
    finally:
        for each in workers:
            each.child.end()
    return Told(recycled.warmed, *told)


def draw(told: Told) -> None:
    """Write the plot: the share of hits in the last requests of each worker."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 3.6), layout="constrained")
    styles = {"sibling": ("black", ":"), "recycled": ("tab:red", "-")}
    for name, hits in told._asdict().items():
        if name == "warmed":
            continue
        sums = [0, *accumulate(hits)]
        places = range(WINDOW, SHOWN, 20)
        shares = [(sums[at] - sums[at - WINDOW]) * 100 / WINDOW for at in places]
        color, dashes = styles.get(name, ("tab:blue", "-"))
        panel.plot(list(places), shares, dashes, color=color, label=name)
    panel.set_xlabel("requests that the new worker has handled")
    panel.set_ylabel(f"hits in L1 of the last {WINDOW}, %")
    panel.set_ylim(0, 100)
    panel.grid(alpha=0.3)
    panel.legend(loc="lower right")
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    with redis_server() as server:
        seen = observe(server.url)
    print(seen)
    draw(seen)
