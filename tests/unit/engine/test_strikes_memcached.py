"""What ``test_strikes.py`` says, over Memcached."""

from __future__ import annotations

import pytest

from tests.unit.engine import test_strikes
from tests.unit.engine.test_strikes import (
    test_a_strike_leaves_nothing_behind as test_a_strike_leaves_nothing_behind,  # noqa: PLC0414 collected here
)

pytestmark = test_strikes.pytestmark


@pytest.fixture(params=["memcached"])
def cache(request, redis_url):
    return test_strikes.open_cache(request, redis_url)
