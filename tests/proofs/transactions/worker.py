"""A process of a site: threads that change rows in transactions, and others that read.

It writes its history to standard output when it is over: rows, versions, and when each
call began and ended by the clock that all processes share.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

import django
from django.conf import settings

ROWS = 4
TRANSACTIONS = 40
BOUND_S = 1.0
ROLLED_BACK = -1
"""The version of a row that is never committed."""


class Undo(Exception):  # noqa: N818
    """Rolls back."""


def setup(url: str, database: str) -> None:
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": database,
                "OPTIONS": {
                    "timeout": 120,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA synchronous=OFF;",
                },
            }
        },
        CACHES={
            "default": {
                "BACKEND": "cachebridge.django_backend.CacheBridge",
                "LOCATION": url,
                "OPTIONS": {"BUS_TRUST": BOUND_S, "SOCKET_TIMEOUT": 120},
            }
        },
    )
    django.setup()


class Site:
    """What the threads of a process do, by a seed."""

    def __init__(self, how: str) -> None:
        from django.core.cache import cache
        from django.db import connection, transaction

        self.cache, self.connection, self.transaction = cache, connection, transaction
        self.with_tags = how == "tags"
        self.is_over = threading.Event()
        self.reads: list[tuple[int, int, float, float]] = []
        self.changes: list[tuple[int, int, float, float]] = []
        """Rows, versions, and between when the commit has come, with its deletes."""
        self.told: list[tuple[int, int, float, float]] = []
        """Reads within transactions that have changed the row."""

    # -- the database ------------------------------------------------------------------

    def load(self, row: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT version FROM row WHERE id = %s", [row])
            return int(cursor.fetchone()[0])

    def write(self, row: int, version: int) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("UPDATE row SET version = %s WHERE id = %s", [version, row])

    # -- the cache ---------------------------------------------------------------------

    def read(self, row: int) -> int:
        tags: Any = {"tags": [f"row:{row}"]} if self.with_tags else {}
        return int(
            self.cache.get_or_load(f"row:{row}", lambda: self.load(row), 60, **tags)
        )

    def invalidate(self, row: int) -> None:
        if self.with_tags:
            self.cache.invalidate_tags(f"row:{row}")
        else:
            self.cache.delete(f"row:{row}")

    # -- what threads do ---------------------------------------------------------------

    def reader(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.is_over.is_set():
            row = rng.randrange(ROWS)
            began = time.monotonic()
            version = self.read(row)
            self.reads.append((row, version, began, time.monotonic()))
            self.pause(rng)
        self.connection.close()

    def writer(self, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(TRANSACTIONS):
            committed: dict[int, tuple[int, float]] = {}
            try:
                with self.transaction.atomic(), self.cache.transaction():
                    for _ in range(rng.randint(1, 3)):
                        self.change(rng, committed)
                    if rng.random() < 0.3:
                        self.spoil(rng.randrange(ROWS))
            except Undo:
                committed = {}
            now = time.monotonic()
            self.changes += [(row, *new, now) for row, new in committed.items()]
            self.pause(rng)
        self.is_over.set()
        self.connection.close()

    def change(
        self, rng: random.Random, committed: dict[int, tuple[int, float]]
    ) -> None:
        """Change a row, in a savepoint or not, which may be rolled back."""
        row = rng.randrange(ROWS)
        if rng.random() < 0.3:
            try:
                with self.transaction.atomic():
                    self.spoil(row)
            except Undo:
                return
        new = self.load(row) + 1
        self.write(row, new)
        self.read(row)  # before it is invalidated: must not be stored
        self.invalidate(row)
        committed[row] = new, time.monotonic()
        began = time.monotonic()
        self.told.append((row, self.read(row) - new, began, time.monotonic()))

    def spoil(self, row: int) -> None:
        """Make a change that is rolled back."""
        self.write(row, ROLLED_BACK)
        self.read(row)
        self.invalidate(row)
        self.read(row)
        raise Undo

    def pause(self, rng: random.Random) -> None:
        time.sleep(rng.random() * 0.004)  # lets others in; longer is as good

    def run(self, seed: int) -> None:
        threads = [
            threading.Thread(target=act, args=(seed * 10 + number,))
            for number, act in enumerate((self.writer, self.reader, self.reader))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    url, database, how, seed = sys.argv[1:]
    setup(url, database)
    site = Site(how)
    while not site.cache.stats().trusted:
        site.read(0)
        time.sleep(0.01)  # a poll
    print("ready", flush=True)
    sys.stdin.readline()
    site.run(int(seed))
    history = {"reads": site.reads, "changes": site.changes, "told": site.told}
    print(json.dumps(history), flush=True)
    for _ in sys.stdin:
        hits = site.cache.stats().l1_hits
        rows = [[site.read(row), site.load(row)] for row in range(ROWS)]
        is_hit = site.cache.stats().l1_hits - hits == ROWS
        print(json.dumps([rows, is_hit]), flush=True)


if __name__ == "__main__":
    main()
