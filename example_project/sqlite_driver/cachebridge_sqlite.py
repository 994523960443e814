"""A driver for cachebridge: a shared store in a file of SQLite, ``sqlite:///path``.

An example of docs/drivers.md, for the processes of one machine.  SQLite lets one
process write at a time, and a call of ours is one transaction: that makes it atomic.
The rules of leases and counters are those of ``memory://``; here are only its tables.
"""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
import time
from collections.abc import MutableMapping
from urllib.parse import unquote, urlsplit

from cachebridge.drivers import (
    ConfigError,
    DriverStores,
    L2Error,
    L2UnavailableError,
    TableServer,
    run,
    table_store,
)

_ABANDONED = []
"""Connections of a parent process: SQLite forbids even to close them in a child."""


def open_stores(opening):
    """Return the stores of a location: the entry point of ``sqlite://``."""
    url = urlsplit(opening.url)
    if url.netloc or len(url.path) <= 1:
        raise ConfigError(
            f"LOCATION {opening.label!r} is not usable: write sqlite:///path/of/file, "
            "with the whole path."
        )
    if opening.arguments:
        raise ConfigError(f"CLIENT_KWARGS are not for {opening.label!r}.")
    database = Database(unquote(url.path), opening.label, opening.socket_timeout)
    server = SqliteServer(database)
    threads = table_store(server, opening.outbox_for_threads)
    return DriverStores(threads=threads, tasks=InThreads(threads))


class SqliteServer(TableServer):
    """The tables of one file."""

    def __init__(self, database):
        # The wall clock, since processes share the TTLs: it must not be set back.
        super().__init__(database.table, database, time.time)
        self._database = database

    def close(self):
        self._database.close()

    def forget(self):
        self._database.forget()


class Database:
    """A file, and its connection, which threads share; ``with`` is a transaction."""

    def __init__(self, path, label, timeout_s):
        self._path, self._label, self._timeout_s = path, label, timeout_s
        self._names = []
        self._connection = None
        self._lock = threading.RLock()

    def table(self, name):
        self._names.append(name)
        return Table(self, name)

    def __enter__(self):
        self._lock.acquire()
        try:
            self._open().execute("BEGIN IMMEDIATE")
        except BaseException as exc:
            self._lock.release()
            error = self._error(exc)
            if error is exc:
                raise
            error.is_unsent = True  # nothing has changed
            raise error from exc

    def __exit__(self, kind, exc, traceback):
        try:
            try:
                self._connection.execute("COMMIT" if exc is None else "ROLLBACK")
            except sqlite3.Error as failure:
                exc = exc or failure
                self.close()  # undoes what is not committed
            if isinstance(exc, sqlite3.Error):
                raise self._error(exc) from exc
        finally:
            self._lock.release()

    def ask(self, sql, *values):
        """Run one statement, inside of a transaction."""
        return self._connection.execute(sql, values)

    def _open(self):
        if self._connection is None:
            made = sqlite3.connect(
                self._path,
                timeout=self._timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                made.execute("PRAGMA journal_mode=WAL")
                made.execute(
                    "PRAGMA synchronous=OFF"
                )  # a cache may lose its last second
                for name in self._names:
                    made.execute(
                        f"CREATE TABLE IF NOT EXISTS {name} "
                        "(number INTEGER PRIMARY KEY AUTOINCREMENT,"
                        " key BLOB UNIQUE, value BLOB)"
                    )
            except BaseException:
                made.close()
                raise
            self._connection = made
        return self._connection

    def _error(self, exc):
        """Return what cachebridge expects of a store that has failed."""
        if not isinstance(exc, sqlite3.Error):
            return exc
        is_away = isinstance(exc, sqlite3.OperationalError)  # locked, full, no file
        kind = L2UnavailableError if is_away else L2Error
        return kind(f"{self._label}: {type(exc).__name__}: {exc}")

    def close(self):
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def forget(self):
        """Leave the connection and the lock to the parent process."""
        _ABANDONED.append(self._connection)
        self._connection = None
        self._lock = threading.RLock()


class Table(MutableMapping):
    """One table as a mapping, from the oldest key to the latest.

    The values are pickled, as those of the cache are: a program that may write the file
    can run code in every process that reads it.
    """

    def __init__(self, database, name):
        self._ask, self._name = database.ask, name

    def __getitem__(self, key):
        sql = f"SELECT value FROM {self._name} WHERE key = ?"
        row = self._ask(sql, _bytes_of(key)).fetchone()
        if row is None:
            raise KeyError(key)
        return pickle.loads(row[0])

    def __setitem__(self, key, value):
        sql = f"REPLACE INTO {self._name} (key, value) VALUES (?, ?)"
        self._ask(sql, _bytes_of(key), pickle.dumps(value))

    def __delitem__(self, key):
        sql = f"DELETE FROM {self._name} WHERE key = ?"
        if not self._ask(sql, _bytes_of(key)).rowcount:
            raise KeyError(key)

    def __iter__(self):
        for (key,) in self._ask(f"SELECT key FROM {self._name} ORDER BY number"):
            yield key.decode("utf-8", "surrogatepass")

    def __len__(self):
        return self._ask(f"SELECT count(*) FROM {self._name}").fetchone()[0]

    def clear(self):
        self._ask(f"DELETE FROM {self._name}")


def _bytes_of(key):
    return key.encode("utf-8", "surrogatepass")


class InThreads:
    """The store for tasks: waiting for the file would hold the event loop up.

    A task that is cancelled leaves its thread at work, which publishes the message.
    """

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        method = getattr(self._store, name)

        async def call(*args, **kwargs):
            return await asyncio.to_thread(lambda: run(method(*args, **kwargs)))

        return call

    def close(self):
        self._store.close()

    def forget(self):
        self._store.forget()
