"""What is public is what the lists say, and importing it has no effects."""

from __future__ import annotations

import importlib
import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cachebridge

PUBLIC = {
    "cachebridge": [
        "ABSENT",
        "DEFAULT",
        "BatchedCounter",
        "Cache",
        "CacheBridgeError",
        "ConfigError",
        "Counter",
        "CounterUnavailableError",
        "DelayHistogram",
        "EntryNotFoundError",
        "Group",
        "GroupStats",
        "Health",
        "L2Error",
        "L2UnavailableError",
        "Loaded",
        "Memoized",
        "MissingKeyError",
        "NodeHealth",
        "Stats",
        "UncacheableError",
        "UnsupportedOperationError",
        "atag",
        "tag",
    ],
    "cachebridge.errors": [
        "CacheBridgeError",
        "ConfigError",
        "CounterUnavailableError",
        "EntryNotFoundError",
        "L2Error",
        "L2UnavailableError",
        "MissingKeyError",
        "UncacheableError",
        "UnsupportedOperationError",
    ],
    "cachebridge.drivers": [
        "COUNTABLE",
        "GONE",
        "NOT_AN_INTEGER",
        "Bounds",
        "ConfigError",
        "Counted",
        "Driver",
        "DriverStores",
        "L2Error",
        "L2Store",
        "L2UnavailableError",
        "LeaseGet",
        "LeaseState",
        "LeaseTerms",
        "LoadReply",
        "LoadedRaw",
        "Opening",
        "Outbox",
        "TableServer",
        "announced",
        "run",
        "table_store",
    ],
    "cachebridge.local": ["IntCache", "ObjCache"],
    "cachebridge.stats": [
        "DelayHistogram",
        "GroupStats",
        "Health",
        "NodeHealth",
        "Stats",
    ],
    "cachebridge.django_backend": ["CacheBridge"],
    "cachebridge.contrib.django": [
        "apurge",
        "apurge_view",
        "cache_page",
        "invalidate_on_save",
        "purge",
        "purge_view",
    ],
    "cachebridge.contrib.opentelemetry": ["instrument", "uninstrument"],
    "cachebridge.contrib.prometheus": ["Exporter", "start"],
    "cachebridge.contrib.sentry": ["instrument", "uninstrument"],
    "cachebridge.flask_ext": [
        "Cache",
        "CacheBridgeBackend",
        "CachedResponse",
        "cache_memoize_hit",
        "cache_memoize_miss",
        "cache_view_hit",
        "cache_view_miss",
        "dashboard",
        "function_namespace",
        "make_template_fragment_key",
    ],
    "cachebridge.testing": [
        "ChaosBus",
        "ChaosL2",
        "FakeClock",
        "FaultProxy",
        "MemcachedServer",
        "RedisCluster",
        "RedisServer",
        "SentinelGroup",
        "ServerNotFoundError",
        "ServerStartError",
        "memcached_server",
        "redis_cluster",
        "redis_server",
        "sentinel_group",
    ],
    "cachebridge.testing.contracts.store_contract": ["L2StoreContract"],
}
"""Written out, not derived: a change of what is public changes this list, too."""
INTERNAL = ["bus", "codec", "core", "engine", "groups", "identity", "l1", "l2"]


@pytest.mark.parametrize("module", PUBLIC)
def test_names(module):
    """Each public module names exactly these, in order, and has them all."""
    imported = importlib.import_module(module)
    assert imported.__all__ == PUBLIC[module]
    for name in imported.__all__:
        assert getattr(imported, name) is not None


@pytest.mark.parametrize("folder", INTERNAL)
def test_internal_folders_say_so(folder):
    """A folder that is not public says it in the first place one looks."""
    imported = importlib.import_module(f"cachebridge.{folder}")
    assert "Internal" in imported.__doc__
    assert not hasattr(imported, "__all__")


def test_error_tree():
    """One base; what users catch as ValueError is one."""
    for name in PUBLIC["cachebridge.errors"]:
        assert issubclass(getattr(cachebridge, name), cachebridge.CacheBridgeError)
    assert issubclass(cachebridge.ConfigError, ValueError)
    assert issubclass(cachebridge.MissingKeyError, ValueError)
    assert not issubclass(cachebridge.L2Error, (ValueError, OSError))


def test_what_a_cache_returns_has_a_public_type():
    """For annotations and ``isinstance``; ``dir`` shows these names, too."""
    cache = cachebridge.Cache("memory://")
    made = {
        "Counter": cache.counter("stock"),
        "BatchedCounter": cache.batched_counter("views"),
        "Group": cache.group("numbers", abs),
        "Memoized": cache.memoize()(run),
    }
    for name, it in made.items():
        assert type(it) is getattr(cachebridge, name)
        assert name in dir(cachebridge)
    with pytest.raises(AttributeError, match="has no attribute 'Stock'"):
        cachebridge.Stock  # noqa: B018


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_import_needs_no_framework_and_starts_nothing():
    """The core package imports no framework, opens no socket and starts no thread."""
    assert (
        run(
            "import sys, threading, cachebridge\n"
            "frameworks = {'django', 'flask', 'pytest'} & set(sys.modules)\n"
            "print(sorted(frameworks), threading.active_count())"
        )
        == "[] 1"
    )


def test_version():
    """The version stands in pyproject.toml alone; the package answers with it."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert cachebridge.__version__ == project["version"]
    written = re.compile(r"^__version__\s*=", re.MULTILINE)
    files = (root / "cachebridge").rglob("*.py")
    assert [path for path in files if written.search(path.read_text())] == []


def test_typed():
    """Type checkers are told that the package is typed."""
    package = importlib.resources.files(cachebridge)
    assert (package / "py.typed").is_file()
