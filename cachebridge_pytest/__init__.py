"""The pytest plugin of cachebridge: fixtures for tests of applications.

pytest loads it by its entry point, so it imports nothing until a fixture is used; that
is why it stands beside the package, whose import would cost every run something.
``docs/testing-an-application.md`` explains the fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from cachebridge import Cache
    from cachebridge.testing import FaultProxy, MemcachedServer, RedisServer
    from cachebridge_pytest.calls import Calls
    from cachebridge_pytest.clock import CacheClock

MODES: Final = ("off", "memory", "prefix", "db")
INI: Final = "cachebridge_isolate"
DATABASES: Final = "cachebridge_databases"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options of ``pytest.ini``."""
    parser.addini(
        INI,
        "give the Django caches of each test values of its own: "
        "off, memory, prefix or db (docs/testing-an-application.md)",
        default="off",
    )
    parser.addini(
        DATABASES,
        'with cachebridge_isolate = db: numbers of databases to be emptied, as "8-15"',
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "cachebridge(isolate, l1): isolate the Django caches of this test so; "
        "l1=False reads the shared store each time",
    )


@pytest.fixture(autouse=True)
def _cachebridge_isolated(request: pytest.FixtureRequest) -> Iterator[None]:
    """Isolate the Django caches as the ini option or the marker says."""
    marker = request.node.get_closest_marker("cachebridge")
    mode = request.config.getini(INI)
    if marker is None and mode == "off":
        yield
        return
    own: dict[str, Any] = {} if marker is None else marker.kwargs
    mode = own.get("isolate", mode)
    wrong = own.keys() - {"isolate", "l1"}
    if mode not in MODES or wrong or (marker is not None and marker.args):
        what = f"{INI} is {mode!r}" if mode not in MODES else f"marker: {marker}"
        pytest.fail(
            f"{what}; valid modes: {', '.join(MODES)}; valid arguments of the marker "
            "cachebridge: isolate, l1",
            pytrace=False,
        )
    with_l1 = own.get("l1", True)
    if mode == "off":
        if not with_l1:
            pytest.fail(
                "the marker's l1=False needs isolate: memory, prefix or db",
                pytrace=False,
            )
        yield
        return
    from cachebridge_pytest.isolation import isolated, worker_of  # noqa: PLC0415 lazy

    worker = worker_of(request.config)
    numbers = request.config.getini(DATABASES)
    with isolated(mode, with_l1=with_l1, worker=worker, databases=numbers):
        yield


@pytest.fixture
def cachebridge_location() -> str:
    """Return a LOCATION on ``memory://`` that no other test has, for app factories."""
    from cachebridge_pytest.isolation import new_location  # noqa: PLC0415

    return new_location()


@pytest.fixture(scope="session")
def cachebridge_redis() -> Iterator[RedisServer]:
    """Start a private Redis for the session, one per xdist worker; see its ``url``.

    Raises ServerNotFoundError if no server program is installed.
    """
    from cachebridge.testing import redis_server  # noqa: PLC0415

    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def cachebridge_memcached() -> Iterator[MemcachedServer]:
    """Start a private Memcached, as ``cachebridge_redis`` does."""
    from cachebridge.testing import memcached_server  # noqa: PLC0415

    with memcached_server() as server:
        yield server


@pytest.fixture
def cachebridge_faults(cachebridge_redis: RedisServer) -> Iterator[FaultProxy]:
    """Return a proxy before the private Redis: use its ``url``, then break it."""
    from cachebridge.testing import FaultProxy  # noqa: PLC0415

    with FaultProxy(cachebridge_redis.host, cachebridge_redis.port) as proxy:
        yield proxy


@pytest.fixture
def cachebridge_clock() -> Iterator[CacheClock]:
    """Return a clock for all caches on ``memory://`` that the test makes.

    It stands still; ``advance(seconds)`` lets TTLs pass without sleeping.
    """
    from cachebridge_pytest.clock import moved_by_hand  # noqa: PLC0415

    with moved_by_hand() as clock:
        yield clock


@pytest.fixture
def cachebridge_fleet(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., list[Cache]]]:
    """Return ``make(n, **options)``: n caches as n processes have them.

    Each has an L1 of its own; they share a store in memory and its messages.
    """
    if "cachebridge_clock" in request.fixturenames:
        request.getfixturevalue("cachebridge_clock")
    from cachebridge_pytest.fleet import fleets  # noqa: PLC0415

    with fleets() as make:
        yield make


@pytest.fixture
def assert_l2_calls() -> Callable[..., AbstractContextManager[Calls]]:
    """Return ``assert_l2_calls(max=..., exactly=...)``, a context manager.

    It fails if the block has made more calls to shared stores, or another number.
    """
    from cachebridge_pytest.calls import assert_l2_calls  # noqa: PLC0415

    return assert_l2_calls
