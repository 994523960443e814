"""One L1 per host over a real server: two engines stand for two processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import redis

from cachebridge.errors import ConfigError
from tests.rig import (
    binding_of,
    engine_of,
    entries_of,
    eventually,
    listening,
    lone_cache,
    rules_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cachebridge import Cache
    from tests.conftest import RedisServerFactory

QUICK = {"bus_heartbeat": 0.05, "bus_trust": 2.0}


@pytest.fixture
def share(tmp_path: Path) -> str:
    return f"1M {tmp_path}"


def sharing(url: str, share: str, **options: Any) -> Cache:
    """Return a cache that listens and is a guardian of what its host shares."""
    cache = listening(lone_cache(url, l1_shared=share, **QUICK, **options))
    eventually(lambda: cache.health().l1_shared == "on")
    return cache


def filled(ours: Cache, theirs: Cache, key: str = "k", value: object = "v") -> None:
    """Let L2 and the shared store have a value, and neither L1."""
    ours.set(key, value)
    full = binding_key(ours, key)
    shared = rules_of(ours).sharing

    def is_shared() -> bool:
        for cache in (ours, theirs):
            rules_of(cache).l1.pop(full)
        theirs.get(key)
        rules_of(theirs).l1.pop(full)
        return shared.store.look(full) is not None

    eventually(is_shared)  # the message of the write may still drop it


def binding_key(cache: Cache, key: str) -> str:
    return binding_of(cache).known_full_key(key)


def test_one_reads_what_the_other_has_read(redis_url: str, share: str) -> None:
    """L2 is not asked; with the second read the value is in L1."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs, value={"n": 1})
    before = ours.stats()
    assert ours.get("k") == {"n": 1}
    assert ours.stats().l1_shared_hits == before.l1_shared_hits + 1
    assert ours.get("k") == {"n": 1}
    assert ours.stats().l1_shared_hits == before.l1_shared_hits + 2
    assert ours.get("k") == {"n": 1}
    after = ours.stats()
    assert after.l1_hits == before.l1_hits + 1
    assert after.l2_hits == before.l2_hits
    assert 0 < after.l1_hit_ratio < 1


def test_many_and_loads_read_it_too(redis_url: str, share: str) -> None:
    """A loader does not run for what is shared, and no lease is taken."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs, "a")
    filled(ours, theirs, "b")
    hits = ours.stats().l1_shared_hits
    assert ours.get_many(["a", "b"]) == {"a": "v", "b": "v"}
    assert ours.get_or_load("a", lambda: pytest.fail("loads")) == "v"
    assert ours.stats().l1_shared_hits == hits + 3


def test_changes_of_others_and_own_are_seen(redis_url: str, share: str) -> None:
    """A changed key: no process of the host reads its old value on."""
    ours = sharing(redis_url, share, key_prefix="p")
    theirs = sharing(redis_url, share, key_prefix="p")
    filled(ours, theirs)
    ours.set("k", "new")
    assert ours.get("k") == "new"
    eventually(lambda: theirs.get("k") == "new")
    filled(ours, theirs)
    theirs.delete("k")
    assert theirs.get("k") is None
    eventually(lambda: ours.get("k") is None)
    filled(ours, theirs)
    theirs.clear()
    assert theirs.get("k") is None
    eventually(lambda: ours.get("k") is None)


def test_new_process_begins_warm(redis_url: str, share: str) -> None:
    """It joins those that are there, and asks L2 for nothing they have read."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs)
    newcomer = sharing(redis_url, share)
    assert newcomer.get("k") == "v"
    assert newcomer.stats().l1_shared_hits == 1
    assert newcomer.stats().l2_hits == 0


def test_signed_values_stay_signed(redis_url: str, share: str) -> None:
    """What stands in the file is what stands in L2: forged, it is a miss."""
    keys = {"signing_keys": ["a secret of thirty-two characters"]}
    ours = sharing(redis_url, share, **keys)
    theirs = sharing(redis_url, share, **keys)
    filled(ours, theirs)
    store = rules_of(ours).sharing.store
    full = binding_key(ours, "k")
    expires, raw = store.look(full)
    with (hold := store.hold(1.0)), hold:
        store.put(full, raw[:-1] + bytes([raw[-1] ^ 1]), expires)
    assert ours.get("k") == "v"
    assert ours.stats().unverified == 1
    assert ours.stats().l1_shared_hits == 0


def test_tagged_values_are_not_shared(redis_url: str, share: str) -> None:
    """They leave with their stamps, of which the shared store knows nothing."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    ours.set("k", "v", tags=["t"])
    assert theirs.get("k") == "v"
    assert theirs.get("k") == "v"
    store = rules_of(ours).sharing.store
    assert all(store.look(key) is None for key in entries_of(engine_of(theirs)))
    theirs.invalidate_tags("t")
    eventually(lambda: ours.get("k") is None)


def test_bypass_asks_l2(redis_url: str, share: str) -> None:
    """Strong reads pass by what is shared as they do L1."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs)
    with ours.bypass_l1():
        assert ours.get("k") == "v"
    assert ours.stats().l1_shared_hits == 0


def test_databases_are_apart(redis_url: str, share: str) -> None:
    """The same key in another database is another value."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs)
    base, _, number = redis_url.rpartition("/")
    other = sharing(f"{base}/{int(number) + 1}", share)
    assert other.get("k") is None


def test_stopped_process_leaves_its_file_to_the_others(
    redis_url: str, share: str
) -> None:
    """And opens it again when it is used again."""
    ours, theirs = sharing(redis_url, share), sharing(redis_url, share)
    filled(ours, theirs)
    engine_of(ours).stop()
    assert ours.health().l1_shared == "not listening yet: no reads so far"
    assert theirs.get("k") == "v"
    listening(ours)
    eventually(lambda: ours.health().l1_shared == "on")


@pytest.mark.parametrize(
    ("location", "options", "reason"),
    [
        ("memory://here", {}, "for one Redis or Valkey, not for memory://here"),
        ("memcached://localhost:1", {"bus": "none"}, "for one Redis or Valkey"),
        ("redis://localhost:1/0", {"bus": "none"}, "BUS is 'none'"),
        (
            ["redis://localhost:1/0", "redis://localhost:2/0"],
            {"replicas": "near"},
            "REPLICAS exclude each other",
        ),
    ],
)
def test_stores_that_share_nothing_say_so(
    location: str, options: dict[str, Any], reason: str
) -> None:
    """``health()`` has the reason; the cache works without."""
    cache = lone_cache(location, l1_shared="1M", **options)
    assert reason in cache.health().l1_shared


def test_directory_that_is_not_there_is_told_once(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with its event; L1 works as without the option."""
    with caplog.at_level(logging.WARNING, "cachebridge.l1"):
        cache = lone_cache(redis_url, l1_shared=f"{tmp_path}/missing", **QUICK)
        listening(cache)
        engine_of(cache).stop()
        listening(cache)
    assert "No such file" in cache.health().l1_shared
    (line,) = [each for each in caplog.records if each.name == "cachebridge.l1"]
    assert line.cachebridge["event"] == "l1.not_shared"
    cache.set("k", "v")
    assert cache.get("k") == "v"


def test_server_that_does_not_say_its_run_is_told(
    redis_server_factory: RedisServerFactory, share: str
) -> None:
    """Without its run a server cannot be told from the one that takes its place."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "app", "on", ">secret", "+@all", "-info", "~*", "&*"
        )
    url = server.url.replace("redis://", "redis://app:secret@")
    cache = listening(lone_cache(url, l1_shared=share, **QUICK))
    eventually(lambda: "run_id" in cache.health().l1_shared)


def test_restarted_server_has_another_file(
    redis_server_factory: RedisServerFactory, tmp_path: Path
) -> None:
    """Nothing of the run before is read (rule 13)."""
    server = redis_server_factory()
    ours = sharing(server.url, f"1M {tmp_path}")
    theirs = sharing(server.url, f"1M {tmp_path}")
    filled(ours, theirs)
    server.kill()
    server.restart()
    eventually(lambda: len([*tmp_path.iterdir()]) == 2)
    eventually(lambda: ours.health().l1_shared == "on")
    assert ours.get("k") is None


def test_without_l1_nothing_can_be_shared() -> None:
    """The two options contradict each other."""
    with pytest.raises(ConfigError, match="L1_SHARED needs an L1"):
        lone_cache("memory://", l1_shared="1M", l1_max_entries=0)
