"""The tests of Flask-Caching and of cachelib as tests of ours."""

from __future__ import annotations

import pytest

from tests.suites.pytest_suites import PYTEST_SUITES, checked


@pytest.mark.slow
@pytest.mark.parametrize("name", PYTEST_SUITES)
def test_suite_passes(name, shared_server):
    """Every test passes but those that are excluded with a reason."""
    verdict = checked(PYTEST_SUITES[name])
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.facts["server commands"]
