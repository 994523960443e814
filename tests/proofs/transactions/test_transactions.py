"""Processes that change rows in transactions: no copy is older than the bound allows.

Each row has a version that only grows; what is rolled back has another.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest

from tests.children import Child
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
    changes = [change for each in histories for change in each["changes"]]
    assert len(changes) > PROCESSES
    for history in histories:
        judge(history["reads"], changes, BOUND_S)
        judge(history["reads"], history["changes"], 0)
        assert {behind for _, behind, *_ in history["told"]} == {0}
    eventually(lambda: all(is_at_rest(each) for each in workers))


def judge(reads, changes, bound_s):
    """Fail for a read of what was replaced longer than the bound before it began."""
    for row, version, began, _ended in reads:
        assert version != ROLLED_BACK, f"row {row} was read as it never was"
        due = [
            new
            for changed, new, at in changes
            if changed == row and at < began - bound_s
        ]
        assert version >= max(due, default=0), f"row {row}: {version} of {max(due)}"


def is_at_rest(worker):
    """Return whether the process reads all rows as they are, and from its L1."""
    worker.say()
    rows, is_hit = worker.hear()
    return is_hit and all(cached == stored for cached, stored in rows)
