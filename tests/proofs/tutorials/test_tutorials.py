"""What the tutorials say happens if one does what they say, on a real Redis."""

from __future__ import annotations

import pytest

from cachebridge.testing import redis_server
from cachebridge.testing.ports import free_port
from tests.examples import ROOT
from tests.tutorial import Reader

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("name", ["tutorial-django", "tutorial-flask"])
def test_a_tutorial(name, tmp_path):
    """Every file and command works, and prints what the page shows."""
    with redis_server() as redis:
        own = {port: str(free_port()) for port in ("8000", "8001")}
        own["6379"] = str(redis.port)
        reader = Reader(tmp_path, redis, own)
        try:
            assert reader.follow(ROOT / f"docs/{name}.md") > 10
        finally:
            reader.stop()
