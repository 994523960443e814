"""Stores of third parties: the example in SQLite, and what is wrong with others."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from cachebridge import ConfigError, L2UnavailableError
from cachebridge.drivers import DriverStores, Opening
from cachebridge.l2 import driver
from cachebridge.testing.contracts.store_contract import L2StoreContract
from cachebridge.waiting.run import run
from tests.rig import PATIENT, breaker_of, eventually, l1_of, listening, lone_cache
from tests.unit.l2.test_contract import InTasks, KeptMessages, PublishesBeside

EXAMPLE = Path(__file__).parents[3] / "example_project/sqlite_driver"


def install(folder, **entries):
    """Write what pip writes for a package with these entry points."""
    info = folder / f"{folder.name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {folder.name}\nVersion: 1\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    text = "\n".join([f"[{driver.GROUP}]", *lines])
    (info / "entry_points.txt").write_text(text)
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs entry points for this test."""

    def add(name, **entries):
        monkeypatch.syspath_prepend(install(tmp_path / name, **entries))

    return add


@pytest.fixture
def sqlite(installed, monkeypatch):
    """Install the example as its own file says."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    installed("sqlite", **project["entry-points"][driver.GROUP])
    monkeypatch.syspath_prepend(EXAMPLE)


def opened(folder, outbox):
    """Open the example as an engine does."""
    from cachebridge_sqlite import open_stores

    url, patience_s = f"sqlite://{folder}/shared.db", PATIENT["socket_timeout"]
    return open_stores(
        Opening(url, url, patience_s, patience_s, None, {}, outbox, outbox)
    )


class TestSqlite(PublishesBeside, L2StoreContract):
    """The example, as threads call it."""

    side = "threads"
    batch = 1000

    @pytest.fixture
    def l2(self, monkeypatch, tmp_path, outbox):
        monkeypatch.syspath_prepend(EXAMPLE)
        stores = opened(tmp_path, outbox)
        yield getattr(stores, self.side)
        stores.threads.close()


class TestSqliteInTasks(InTasks, TestSqlite):
    """The same, as tasks call it: in threads of the event loop."""

    side = "tasks"


def test_coherent(sqlite, tmp_path, redis_url):
    """Two processes share a file: one's write leaves the other's L1."""
    url = f"sqlite://{tmp_path}/shared.db"
    ours, theirs = (
        listening(lone_cache(url, bus_location=redis_url, **PATIENT)) for _ in range(2)
    )
    ours.set("k", "old")
    assert theirs.get("k") == "old"
    eventually(lambda: (theirs.get("k"), l1_of(theirs).look("k"))[1])
    ours.set("k", "new")
    eventually(lambda: theirs.get("k") == "new")
    assert ours.get_or_load("loaded", lambda: 1) == 1
    assert theirs.get_or_load("loaded", lambda: 2) == 1
    assert theirs.health().l2_reachable


def test_away(sqlite, tmp_path):
    """A file that cannot be opened is an outage, also for the breaker, until it can."""
    folder = tmp_path / "later"
    url = f"sqlite://{folder}/shared.db"
    cache = lone_cache(url, breaker_failures=2, breaker_retry=0.001)
    assert cache.get("k", "default") == "default"
    assert not breaker_of(cache).is_open
    assert cache.get("k", "default") == "default"
    assert breaker_of(cache).is_open
    with pytest.raises(L2UnavailableError, match="OperationalError"):
        lone_cache(url, on_error="raise").get("k")
    folder.mkdir()
    eventually(lambda: cache.set("k", 1))
    assert not breaker_of(cache).is_open
    assert cache.get("k") == 1


def test_a_change_that_fails(sqlite, tmp_path):
    """What a call has changed before an error is undone, and nothing published."""
    outbox = KeptMessages()
    stores = opened(tmp_path, outbox)
    with pytest.raises(ValueError, match="shorter"):
        run(stores.threads.store([("a", b"1"), ("b", b"1")], [10_000], b"message"))
    assert run(stores.threads.get("a")) == (None, -2)
    assert outbox.kept == []
    stores.threads.close()


def test_fork(sqlite, tmp_path):
    """A child begins with a connection of its own, and the parent's stays usable."""
    stores = opened(tmp_path, KeptMessages())
    run(stores.threads.store([("k", b"1")], None, None))
    child = os.fork()
    if not child:
        with suppress(BaseException):
            stores.threads.forget()
            if run(stores.threads.incr("k", 1, None)) == 2:
                os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert run(stores.threads.incr("k", 1, None)) == 3
    stores.threads.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/file"])
def test_urls(sqlite, url):
    """The driver itself judges its URL."""
    with pytest.raises(ConfigError, match="sqlite:///path"):
        lone_cache(url)


def test_unknown_scheme(installed):
    """The error names the drivers that there are."""
    with pytest.raises(ConfigError, match="Installed drivers: none"):
        lone_cache("sqlit:///file")
    installed("good", sqlite="nothing:here", lmdb="nothing:here")
    with pytest.raises(ConfigError, match="Installed drivers: lmdb, sqlite") as caught:
        lone_cache("sqlit://user:secret@/file")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:f", "cannot be loaded: ModuleNotFoundError"),
        ("sys:no_such_name", "cannot be loaded: AttributeError"),
        ("sys:path", "is no function, but list"),
        ("builtins:repr", "returned str instead of DriverStores"),
    ],
)
def test_broken(installed, value, said):
    """The error names the entry point, and what is wrong with it."""
    installed("broken", broken=value)
    with pytest.raises(ConfigError, match=said) as caught:
        lone_cache("broken://user:secret@host/0")
    assert value in str(caught.value)
    assert "secret" not in str(caught.value)


def test_two_drivers(installed):
    """No package wins by chance."""
    installed("one", twice="one:open")
    installed("two", twice="two:open")
    with pytest.raises(ConfigError, match="several drivers: one:open, two:open"):
        lone_cache("twice://host")


def test_own_schemes_read_no_entry_points(monkeypatch, redis_url):
    """A package cannot take redis:// over, and costs those nothing who lack one."""

    def asked():
        raise AssertionError("entry points were read")

    monkeypatch.setattr(driver, "_installed", asked)
    for url in ("memory://", redis_url, "memcached://127.0.0.1:1"):
        lone_cache(url)


def test_stores_are_a_pair():
    """A driver says by name which store is for whom."""
    assert DriverStores(tasks=1, threads=2) == (2, 1)


@pytest.mark.proof
def test_contract_command(tmp_path, redis_url):
    """The acceptance test knows drivers."""
    folder = install(tmp_path / "installed", sqlite="cachebridge_sqlite:open_stores")
    path = os.pathsep.join([str(folder), str(EXAMPLE)])
    url = f"sqlite://{tmp_path}/shared.db"
    done = subprocess.run(
        [sys.executable, "-m", "cachebridge.testing.contract", url, "--bus", redis_url],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_example_settings(sqlite, tmp_path, redis_url):
    """The shop's settings run over the driver, with Redis for messages alone."""
    folder = install(tmp_path / "installed", sqlite="cachebridge_sqlite:open_stores")
    url = f"sqlite://{tmp_path}/shop.db"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(EXAMPLE)]),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "SHOP_STORE_URL": url,
        "SHOP_REDIS_URL": redis_url,
    }
    code = (
        "from django.core.cache import cache; cache.set('k', 1); print(cache.get('k'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=EXAMPLE.parents[1],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr
    assert (tmp_path / "shop.db").exists()
