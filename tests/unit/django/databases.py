"""Databases of the transaction tests: files of SQLite, with a connection per thread."""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connections

LIKE_DJANGO = {
    "ENGINE": "django.db.backends.sqlite3",
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "OPTIONS": {
        "timeout": 120,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
    },
    "TIME_ZONE": None,
    "USER": "",
    "PASSWORD": "",
    "HOST": "",
    "PORT": "",
    "TEST": {},
}


@contextmanager
def sqlite_files(folder, *aliases):
    """Let Django know databases of these names, each with a table of rows."""
    for alias in aliases:
        connections.settings[alias] = {**LIKE_DJANGO, "NAME": folder / alias}
        with connections[alias].cursor() as cursor:
            cursor.execute("CREATE TABLE row (id integer PRIMARY KEY, value text)")
    try:
        yield
    finally:
        for alias in aliases:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]


def read(alias, number):
    """Return the value of a row as this thread sees it."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT value FROM row WHERE id = %s", [number])
        found = cursor.fetchone()
    return found and found[0]


def write(alias, number, value):
    """Write the value of a row."""
    with connections[alias].cursor() as cursor:
        cursor.execute("REPLACE INTO row VALUES (%s, %s)", [number, value])
