"""The suites of other projects as tests of ours.

`python -m tests.proofs.suites` says more.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.proofs.suites.catalog import SUITES
from tests.proofs.suites.checked import checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import MemcachedServer, RedisServer
    from tests.proofs.suites.judge import Verdict

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


@pytest.mark.proof
@pytest.mark.parametrize("name", SUITES)
def test_suite_passes(name: str, runs: dict[str, Future[Verdict]]) -> None:
    """Every test passes with our backend but those excluded with a reason.

    In one of two runs: some tests of Django fill an entry whose TTL is one second and
    read it at once.  Memcached counts whole seconds from its own tick, so that second
    may be over a moment later, whatever the backend.  A test fails this one if it fails
    in both runs.
    """
    suite = SUITES[name]
    timeout_s = 2 * len(runs) * suite.timeout_s
    verdict = runs[name].result(timeout_s)
    problems = verdict.problems
    if problems:
        print("\n".join(problems))
        first = {_subject(problem) for problem in problems}
        problems = tuple(
            problem for problem in checked(suite).problems if _subject(problem) in first
        )
    assert not problems, "\n".join(problems)


def _subject(problem: str) -> str:
    """Return what a problem is about: its first line, without the traceback."""
    return problem.partition("\n")[0]
