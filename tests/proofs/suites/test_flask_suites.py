"""The tests of Flask-Caching and of cachelib as tests of ours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proofs.suites.pytest_suites import PYTEST_SUITES, checked

# Most of the time the suites sleep until something expires.
AT_ONCE = 3


@pytest.fixture(scope="module")
def runs(request, shared_server, shared_memcached):
    """Start all suites that were selected, side by side."""
    wanted = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(checked, PYTEST_SUITES[name]) for name in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.proof
@pytest.mark.parametrize("name", PYTEST_SUITES)
def test_suite_passes(name, runs):
    """Every test passes but those that are excluded with a reason."""
    verdict = runs[name].result(2 * len(runs) * PYTEST_SUITES[name].timeout_s)
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.facts["server commands"]
