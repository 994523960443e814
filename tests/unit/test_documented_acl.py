"""The ACL users that the documents recommend have the rights all operations need."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from cachebridge import Cache
from cachebridge.commands.warming import warm
from cachebridge.engine.warming.lists import name_of_host
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.testing import redis_cluster
from tests.rig import PATIENCE_S, engine_of, eventually, l1_of

ROOT = Path(__file__).parents[2]


def documented_rule(page: str) -> str:
    text = (ROOT / page).read_text()
    (rule,) = re.findall(
        r"^```\n(ACL SETUSER .*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    return " ".join(rule.split())


@pytest.mark.parametrize(
    ("page", "password", "written", "keys"),
    [
        ("SECURITY.md", "password", "~*", "~*"),
        ("SECURITY.md", "password", "~*", "~shop:* ~cachebridge:*"),
        ("docs/options.md", "secret", "~:1:*", "~shop:*"),
    ],
)
def test_the_documented_user_can_do_everything(
    redis_server_factory, page, password, written, keys
):
    """No operation, and nothing the listener does, is denied to that user."""
    server = redis_server_factory()
    rule = documented_rule(page)
    assert f" {written} " in rule
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*rule.replace(written, keys).split())
        url = server.url.replace("redis://", f"redis://shop:{password}@")
        cache = Cache(url, KEY_PREFIX="shop:", L1_WARM=True)
        use_every_operation(cache)
        deadline = time.monotonic() + PATIENCE_S
        while not cache.health().l1_trusted:
            assert time.monotonic() < deadline, cache.health()
            cache.get("counter")
        cache.set("counter", 1)
        cache.warm(pattern="*")
        eventually(lambda: cache.warm(["counter"]) or len(l1_of(cache)))
        assert warm(cache, ["counter"], None)[0] == 0
        eventually(lambda: engine_of(cache).warm_up._work.todo is not None)

        def is_published():
            cache.get("counter")  # what L1 does not hold is not published
            engine_of(cache).warm_up.publish_last()
            return admin.exists(f"cachebridge:warm:{name_of_host()}")

        eventually(is_published)
        engine_of(cache).stop(patience_s=1.0)
        assert admin.acl_log() == []


@pytest.mark.parametrize("keys", ["~*", "~shop:* ~cachebridge:*"])
def test_the_documented_user_can_do_everything_on_a_cluster(shared_server, keys):
    """With the rights that the page adds, also while a slot is being moved."""
    rule = documented_rule("SECURITY.md").replace(" ~* ", f" {keys} ")
    page = (ROOT / "SECURITY.md").read_text()
    (more,) = re.findall(r"^```\n(\+cluster.*?)\n```$", page, re.MULTILINE)
    with redis_cluster() as cluster, ExitStack() as opened:
        admins = [
            opened.enter_context(redis.Redis(node.host, node.port))
            for node in cluster.nodes
        ]
        for admin in admins:
            admin.execute_command(*rule.split(), *more.split())
        url = cluster.url.replace("://", "://shop:password@")
        cache = Cache(url, KEY_PREFIX="shop:")
        opened.callback(cache.close)
        use_every_operation(cache)
        eventually(lambda: cache.get("counter") and cache.health().l1_trusted)
        slot = slot_of(b"shop:counter")
        to = next(n for n in cluster.nodes if n is not cluster.node_of(slot))
        cluster.begin_move(slot, to)
        cluster.move_keys(slot, to)
        with cache.bypass_l1():
            assert cache.get("counter") == 1  # ASK
        cluster.end_move(slot, to)
        assert cache.incr("counter") == 2  # MOVED
        for admin in admins:
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
