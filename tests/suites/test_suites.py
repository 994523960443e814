"""The suites of other projects as tests of ours; `python -m tests.suites` says more."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.suites.catalog import SUITES
from tests.suites.checked import checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import MemcachedServer, RedisServer
    from tests.suites.judge import Verdict

# Most of the time the suites sleep until something expires.
AT_ONCE = 6


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    shared_server: RedisServer,
    shared_memcached: MemcachedServer,
) -> Iterator[dict[str, Future[Verdict]]]:
    """Start all suites that were selected, side by side."""
    wanted = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "name" in item.callspec.params
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(checked, SUITES[name]) for name in sorted(wanted)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_suite_passes(name: str, runs: dict[str, Future[Verdict]]) -> None:
    """Every test passes with our backend but those excluded with a reason.

    In one of two runs: some of Django's tests sleep for just as long as a TTL, which is
    a second, and over Memcached that may be over at once, whatever the backend.
    """
    suite = SUITES[name]
    timeout_s = 2 * len(runs) * suite.timeout_s
    verdict = runs[name].result(timeout_s)
    if verdict.problems:
        print("\n".join(verdict.problems))
        verdict = checked(suite)
    assert not verdict.problems, "\n".join(verdict.problems)
