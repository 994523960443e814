"""The ACL user that SECURITY.md recommends has the rights all operations need."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import redis

from cachebridge import Cache

SECURITY = Path(__file__).parents[1] / "SECURITY.md"


def documented_rule() -> list[str]:
    (rule,) = re.findall(
        r"^```\n(ACL SETUSER .*?)^```$", SECURITY.read_text(), re.MULTILINE | re.DOTALL
    )
    return rule.split()


@pytest.mark.parametrize("keys", ["~*", "~shop:* ~cachebridge:*"])
def test_the_documented_user_can_do_everything(redis_server_factory, keys):
    """No operation, and nothing the listener does, is denied to that user."""
    server = redis_server_factory()
    rule = " ".join(documented_rule())
    assert " ~* " in rule
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*rule.replace("~*", keys).split())
        url = server.url.replace("redis://", "redis://shop:password@")
        cache = Cache(url, KEY_PREFIX="shop:")
        use_every_operation(cache)
        deadline = time.monotonic() + 10
        while not cache.health().l1_trusted:
            assert time.monotonic() < deadline, cache.health()
            cache.get("counter")
        assert admin.acl_log() == []


def use_every_operation(cache: Cache) -> None:
    cache.set("counter", 1)
    cache.set_many({"one": {"field": 1}, "two": 1.5, "three": "3"}, ttl=60)
    assert cache.get_many(["one", "two"]) == {"one": {"field": 1}, "two": 1.5}
    assert cache.incr("counter") == 2
    assert cache.decr("two") == 0.5
    assert cache.add("new", 1)
    assert not cache.add("new", 2)
    assert cache.touch("new", 30)
    assert cache.touch("new", None)
    assert cache.has_key("new")
    assert cache.get_or_load("loaded", lambda: "value") == "value"
    assert cache.delete("three")
    assert cache.delete_many(["one", "two"]) == 2
    cache.l1_off()
    cache.l1_on()
    cache.clear()
    assert cache.get("counter") is None
    cache.set("counter", 1)
