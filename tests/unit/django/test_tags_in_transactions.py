"""Tags that a transaction invalidates: for itself at once, for all with the commit."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from django.core.cache import caches
from django.db import connections
from django.db.transaction import atomic

from cachebridge.waiting.run import run
from tests.rig import PATIENCE_S, eventually
from tests.unit.django.databases import read, write
from tests.unit.django.support import hits_of
from tests.unit.django.test_transactions import Undo, databases, elsewhere, others
from tests.unit.flask.support import Calls

__all__ = ["databases", "others"]


class Tagged:
    """The operations of a cache that take tags, as its adapter calls them."""

    def __init__(self, cache):
        self._cache = cache

    def __getattr__(self, name):
        def call(key, *args, tags=()):
            operations, full_key = self._cache._locate(key, None)
            method = getattr(operations.for_threads, name)
            return run(method(full_key, *args, 60_000, tags=tags))

        return call


@pytest.mark.every_store
@pytest.mark.parametrize("in_block", [True, False])
def test_the_commit_invalidates(databases, cache, others, in_block):
    """Until then others find the values; the thread finds those of other tags."""
    Tagged(cache).set("a", 1, tags=["one", "both"])
    Tagged(cache).set("b", 2, tags=["two", "both"])
    cache.set("c", 3)
    assert cache.get_many("abc") == {"a": 1, "b": 2, "c": 3}
    with atomic("shop"):
        if in_block:
            with cache.transaction("shop"):
                assert cache.invalidate_tags("one")
        else:
            cache.on_commit("shop").invalidate_tags("one")
        assert cache.get_many("abc") == {"b": 2, "c": 3}
        assert [cache.get(key) for key in "abc"] == [None, 2, 3]
        assert [key in cache for key in "abc"] == [False, True, True]
        assert [others(key) for key in "abc"] == [1, 2, 3]
    assert cache.get_many("abc") == {"b": 2, "c": 3}
    assert others("a") is None


def test_a_rollback_forgets(databases, cache, others):
    """By savepoint; and hits of L1 are hits again."""
    Tagged(cache).set("a", 1, tags=["one"])
    Tagged(cache).set("b", 2, tags=["two"])

    @atomic("shop")
    def change(tag, *, fails):
        cache.on_commit("shop").invalidate_tags(tag)
        if fails:
            raise Undo

    with atomic("shop"), cache.transaction("shop"):
        with pytest.raises(Undo):
            change("one", fails=True)
        assert cache.get("a") == 1
        change("two", fails=False)
        assert cache.get("b") is None
    assert cache.get_many("ab") == {"a": 1}
    assert hits_of(cache, lambda: cache.get("a")) == 1
    with pytest.raises(Undo):
        change("one", fails=True)
    assert cache.get("a") == 1
    assert cache._local_get("a") == 1  # by the fast path
    assert not cache._binding.held.in_use


def test_what_is_loaded_or_set_meanwhile_reaches_no_other(databases, cache, others):
    """Also past the block, as with ATOMIC_REQUESTS."""
    calls = Calls()
    Tagged(cache).set("a", "old", tags=["one"])
    with atomic("shop"):
        cache.on_commit("shop").invalidate_tags("one")
        assert Tagged(cache).get_or_load("a", calls, tags=["one"]) == 1
        assert cache.get_or_load("new", calls) == 2
        Tagged(cache).set("a", "uncommitted", tags=["one"])
        Tagged(cache).set("b", "uncommitted", tags=["one", "two"])
        assert not Tagged(cache).add("c", "uncommitted", tags=["one"])
        Tagged(cache).set("free", 1, tags=["two"])
        assert [others(key) for key in ("a", "b", "c", "new")] == [None] * 4
        assert others("free") == cache.get("free") == 1
    assert Tagged(cache).get_or_load("a", calls, tags=["one"]) == 3
    assert cache._local_get("a") == 3  # by the fast path


def test_one_message_for_all_tags_of_a_transaction(databases, cache):
    """However many calls it made."""
    for number in range(20):
        Tagged(cache).set(str(number), number, tags=[f"tag:{number}"])
    sent = cache.stats().messages_sent
    with atomic("shop"):
        for number in range(20):
            cache.on_commit("shop").invalidate_tags(f"tag:{number}")
    assert cache.stats().messages_sent == sent + 1
    assert cache.get_many(str(number) for number in range(20)) == {}


def test_others_of_the_process_keep_l1(databases, cache):
    """They take the longer way to it: the fast one knows no tags."""
    Tagged(cache).set("a", 1, tags=["one"])

    def read_often():
        other = caches["default"]
        return hits_of(other, lambda: [other.get("a") for _ in range(9)])

    with atomic("shop"):
        cache.on_commit("shop").invalidate_tags("one")
        assert elsewhere(read_often) == 9
    assert cache.get("a") is None


@pytest.mark.every_store
def test_a_load_from_before_the_commit_is_not_served_after_it(databases, cache):
    """Another thread has read the old row, and returns after the invalidation."""
    write("shop", 1, "old")
    has_read, go_on = threading.Event(), threading.Event()

    def load_slowly():
        value = read("shop", 1)
        has_read.set()
        assert go_on.wait(PATIENCE_S)
        connections["shop"].close()
        return value

    answers = []

    def load():
        other = caches["default"]
        answers.append(Tagged(other).get_or_load("row", load_slowly, tags=["row"]))

    loading = threading.Thread(target=load)
    loading.start()
    assert has_read.wait(PATIENCE_S)
    with atomic("shop"):
        write("shop", 1, "new")
        cache.on_commit("shop").invalidate_tags("row")
    go_on.set()
    loading.join(PATIENCE_S)
    assert answers == ["old"]
    new = Tagged(cache).get_or_load("row", partial(read, "shop", 1), tags=["row"])
    assert new == "new"
    assert eventually(lambda: cache.get("row") == "new")


@pytest.mark.parametrize("in_block", [True, False])
def test_a_set_of_what_exists(databases, cache, others, in_block):
    """With ``xx`` it answers as ``get`` does, and others see no value of it."""
    cache.set("a", 1, 60, tags=["one"])
    cache.set("b", 2, 60, tags=["two"])
    with atomic("shop"):
        if in_block:
            with cache.transaction("shop"):
                cache.invalidate_tags("one")
                assert not cache.set("a", 3, 60, xx=True, tags=["one"])
                assert cache.ttl("a") == 0
                assert 50 < cache.ttl("b") <= 60
                assert cache.set("b", 3, 60, xx=True, tags=["two"])
                assert cache.get("b") is None
                assert others("b") == 2
        else:
            cache.on_commit("shop").invalidate_tags("one")
            assert not cache.set("a", 3, 60, xx=True, tags=["one"])
            assert cache.ttl("a") == 0
            assert cache.set("b", 3, 60, xx=True, tags=["two"])
            assert cache.get("b") == 3
            assert cache.set("b", 4, 60, xx=True, tags=["one"])
            assert others("b") is None
        assert others("a") == 1
    assert others("a") is None
    assert others("b") is None
