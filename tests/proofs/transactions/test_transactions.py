"""Processes that change rows in transactions: no copy is older than the bound allows.

Each row has a version that only grows; what is rolled back has another.  The checker of
the process test judges what was read.  It is told more than it could see: the database
lets one transaction write at a time, so of two versions the later is known.
"""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.children import Child
from tests.proofs.processes.checker import check
from tests.proofs.processes.history import ABSENT, KeyHistory, Op, Read, Write
from tests.proofs.transactions.worker import BOUND_S, ROLLED_BACK, ROWS
from tests.rig import eventually

pytestmark = pytest.mark.proof

PROCESSES = 3


class Worker:
    """One process, and what it says."""

    def __init__(self, *args):
        self.child = Child(
            [sys.executable, "-m", "tests.proofs.transactions.worker", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.child.line() == "ready\n"

    def say(self):
        self.child.stdin.write("\n")
        self.child.stdin.flush()

    def hear(self):
        return json.loads(self.child.line())


@pytest.fixture
def workers(request, tmp_path, redis_url):
    """Start the processes on one database and one server."""
    database = str(tmp_path / "rows")
    with sqlite3.connect(database) as rows:
        rows.execute("PRAGMA journal_mode=WAL")
        rows.execute("CREATE TABLE row (id integer PRIMARY KEY, version integer)")
        rows.executemany("INSERT INTO row VALUES (?, 0)", [(n,) for n in range(ROWS)])
    rows.close()
    arguments = (redis_url, database, request.param)
    started = [Worker(*arguments, str(seed)) for seed in range(PROCESSES)]
    yield started
    for worker in started:
        worker.child.end()


@pytest.mark.parametrize("workers", ["keys", "tags"], indirect=True)
def test_no_copy_outlives_its_commit(workers):
    """Nothing rolled back is ever read; nothing is stale past the bound, or at rest."""
    for worker in workers:
        worker.say()
    histories = [worker.hear() for worker in workers]
    assert sum(len(each["changes"]) for each in histories) > PROCESSES
    assert {behind for each in histories for _, behind, *_ in each["told"]} == {0}
    verdict = check(by_row(histories), bound_s=BOUND_S, counters=())
    assert not verdict.violations, "\n".join(map(str, verdict.violations[:5]))
    assert verdict.reads > PROCESSES
    eventually(lambda: all(is_at_rest(each) for each in workers))


def by_row(histories):
    """Return what is known of each row's key: a commit deletes it."""
    rows = {f"row:{row}": KeyHistory() for row in range(ROWS)}
    changes = {key: [] for key in rows}
    for worker, history in enumerate(histories):
        for row, version, begun, ended in history["changes"]:
            write = Write(ABSENT, begun, ended, True, worker, f"{ended} commit")
            rows[f"row:{row}"].writes.append(write)
            changes[f"row:{row}"].append((version, begun))
        for row, version, began, ended in history["reads"]:
            key = f"row:{row}"
            op = Op(worker, 0, "load", began, began, ended, [(key, version)])
            rows[key].reads.append(Read(version, began, ended, False, worker, op))
    for key, found in changes.items():
        versions = [(0, -math.inf), *sorted(found), (None, math.inf)]
        for (version, begun), (_, replaced) in pairwise(versions):
            end = math.nextafter(replaced, -math.inf)
            write = Write(version, begun, end, False, -1, f"version {version}")
            rows[key].writes.append(write)
    return rows


@pytest.mark.parametrize(
    ("read", "rules"),
    [
        ((0, 1, 5.0, 5.1), []),
        ((0, 1, 5.9, 6.0), []),
        ((0, 1, 6.1, 6.2), ["too-old"]),
        ((0, 0, 4.0, 4.1), ["too-old"]),
        ((0, 2, 3.0, 3.1), ["never-written"]),
        ((0, ROLLED_BACK, 5.0, 5.1), ["never-written"]),
    ],
)
def test_what_is_too_old(read, rules):
    """Versions follow each other although their transactions end late."""
    writer = {"changes": [(0, 1, 1.0, 2.0), (0, 2, 4.0, 5.0)], "reads": []}
    reader = {"changes": [], "reads": [read]}
    verdict = check(by_row([writer, reader]), bound_s=BOUND_S, counters=())
    assert [each.rule for each in verdict.violations] == rules
    own = {**writer, "reads": [(0, 1, 5.1, 5.2)]}
    verdict = check(by_row([own]), bound_s=BOUND_S, counters=())
    assert [each.rule for each in verdict.violations] == ["went-back"]


def is_at_rest(worker):
    """Return whether the process reads all rows as they are, and from its L1."""
    worker.say()
    rows, is_hit = worker.hear()
    return is_hit and all(cached == stored for cached, stored in rows)
