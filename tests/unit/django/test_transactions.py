"""``cache.transaction()`` and ``cache.on_commit``: the commit invalidates."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from functools import partial

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache as default_cache
from django.core.cache import caches
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError, atomic
from django.http import HttpResponse
from django.test import Client, TestCase
from django.urls import path
from django.utils.connection import ConnectionDoesNotExist
from hypothesis import given, settings, strategies

from tests.rig import PATIENCE_S, eventually
from tests.unit.django.databases import read, sqlite_files, write
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls


@pytest.fixture
def databases(tmp_path, django_db_blocker):
    """Make two databases, ``shop`` and ``stock``."""
    with django_db_blocker.unblock(), sqlite_files(tmp_path, "shop", "stock"):
        yield


class Undo(Exception):  # noqa: N818
    """Rolls back."""


def elsewhere(call):
    """Return what a call returns in another thread, which is in no transaction."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join(PATIENCE_S)
    return answers[0]


@pytest.fixture
def others(cache):
    """Return what the other threads find under a key."""
    return lambda key: elsewhere(partial(caches["default"].get, key))


@pytest.mark.every_store
@pytest.mark.parametrize("in_block", [True, False])
def test_a_delete_waits_for_the_commit(databases, cache, others, in_block):
    """Until then others find the value; the thread itself finds none."""
    cache.set("key", 1)
    assert cache.get("key") == 1
    with atomic("shop"):
        if in_block:
            with cache.transaction("shop"):
                assert cache.delete("key")
                assert not cache.delete("key")
        else:
            cache.on_commit("shop").delete("key")
        assert cache.get("key") is None
        assert others("key") == 1
    assert cache.get("key") is None
    assert others("key") is None


@pytest.mark.parametrize("in_block", [True, False])
def test_a_rollback_forgets_the_delete(databases, cache, in_block):
    """And the value is a hit in L1 again."""
    cache.set("key", 1)

    @atomic("shop")
    def change():
        if in_block:
            with cache.transaction("shop"):
                cache.delete("key")
                raise Undo
        cache.on_commit("shop").delete("key")
        assert cache.get("key") is None
        raise Undo

    with pytest.raises(Undo):
        change()
    assert cache.get("key") == 1
    assert hits_of(cache, lambda: cache.get("key")) == 1
    assert not cache._binding.held.in_use


CHANGES = {
    "delete": lambda cache: cache.delete("a"),
    "delete_many": lambda cache: cache.delete_many(["a", "b"]),
    "set": lambda cache: cache.set("a", 2),
    "set, not waited for": lambda cache: cache.set("a", 2, wait=False),
    "set_many": lambda cache: cache.set_many({"a": 2, "b": 2}),
    "a timeout that is over": lambda cache: cache.touch("a", 0),
    "adelete": lambda cache: async_to_sync(cache.adelete)("a"),
    "aset": lambda cache: async_to_sync(cache.aset)("a", 2),
    "adelete_many": lambda cache: async_to_sync(cache.adelete_many)(["a"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_a_value_becomes_a_delete(databases, cache, others, name):
    """At the commit, not before, and no value written in it comes out."""
    cache.set("a", 1)
    with atomic("shop"), cache.transaction("shop"):
        CHANGES[name](cache)
        assert cache.get("a") is None
        assert "a" not in cache
        assert cache.get_many(["a", "c"]) == {}
        assert others("a") == 1
    assert cache.get("a") is None
    assert others("a") is None


def test_locks_and_counters_act_at_once(databases, cache, others):
    """What L2 decides is decided now; under a key that is held there is nothing."""
    cache.set_many({"number": 1, "text": "a"})
    with atomic("shop"), cache.transaction("shop"):
        assert cache.add("lock", 1)
        assert cache.incr("number") == 2
        assert cache.append("text", "b") == 2
        assert cache.touch("text", 60)
        assert others("lock") == 1
        cache.delete_many(["lock", "number", "text"])
        assert not cache.add("lock", 2)
        assert not cache.touch("text", 60)
        assert cache.append("text", "c") == 0
        with pytest.raises(ValueError, match="before the commit"):
            cache.incr("number")
        assert others("number") == 2


def test_sessions_are_no_copies(databases, cache, others):
    """A visitor who logs in within a block stays logged in."""
    session = SessionStore()
    with atomic("shop"), cache.transaction("shop"):
        session["user"] = 7
        session.save()
        session.cycle_key()
        session["user"] = 8
        session.save()
        assert others(session.cache_key) == {"user": 8}
    assert SessionStore(session.session_key)["user"] == 8


class Site:
    """A URL configuration of one view, which changes a row."""

    @staticmethod
    def change(request):
        cache = caches["default"]
        with cache.transaction("shop"):
            write("shop", 1, "new")
            cache.delete("row")
        if "fail" in request.GET:
            raise Undo
        return HttpResponse(cache.get_or_load("row", partial(read, "shop", 1)))

    urlpatterns = (path("change/", change),)


def test_atomic_requests(databases, cache, others, settings):
    """The transaction is the request's: its end is the commit."""
    settings.ROOT_URLCONF = Site
    connections.settings["shop"]["ATOMIC_REQUESTS"] = True
    connections["shop"].settings_dict["ATOMIC_REQUESTS"] = True
    write("shop", 1, "old")
    cache.set("row", "old")
    with pytest.raises(Undo):
        Client().get("/change/", {"fail": "1"})
    assert (cache.get("row"), read("shop", 1)) == ("old", "old")
    assert Client().get("/change/").content == b"new"
    assert (cache.get("row"), read("shop", 1)) == (None, "new")


def test_patterns_and_clears_after_the_commit(databases, cache, others):
    """They hide nothing before it."""
    cache.set_many({"a:1": 1, "a:2": 2, "b:1": 3})
    with atomic("shop"):
        cache.on_commit("shop").delete_pattern("a:*")
        assert (cache.get("a:1"), others("a:2")) == (1, 2)
    assert cache.get_many(["a:1", "a:2", "b:1"]) == {"b:1": 3}
    with atomic("shop"):
        cache.on_commit("shop").clear()
        assert others("b:1") == 3
    assert others("b:1") is None


def test_what_cannot_be_done_after_the_commit_is_refused_before_it(databases, cache):
    """A hook that raises would keep later ones from running."""
    with atomic("shop"):
        on_commit = cache.on_commit("shop")
        for call, error in (
            (lambda: on_commit.delete_pattern(7), TypeError),
            (lambda: on_commit.delete_pattern(""), ValueError),
            (lambda: on_commit.clear(prefix=7), TypeError),
            (lambda: on_commit.invalidate_tags(7), TypeError),
        ):
            with pytest.raises(error):
                call()
        assert connections["shop"].run_on_commit == []


def test_one_round_trip_and_one_message_for_all_of_a_transaction(databases, cache):
    """However many calls it made."""
    cache.set_many({str(number): number for number in range(50)})
    sent = cache.stats().messages_sent
    with atomic("shop"):
        for number in range(50):
            with atomic("shop"), cache.transaction("shop"):
                cache.delete(str(number))
    assert cache.stats().messages_sent == sent + 1
    assert cache.get_many(str(number) for number in range(50)) == {}


def test_a_load_stores_nothing_in_it(databases, cache, others):
    """The loader's value is for its caller; a group's and a memoized one's as well."""
    cache.set("old", 1)
    calls = Calls()
    group = cache.group("number", lambda number: (number, calls()), ttl=60)
    squares = cache.group("many", load_many=lambda many: {n: n * n for n in many})

    @default_cache.memoize(ttl=60)
    def price(number):
        return number, calls()

    with atomic("shop"), cache.transaction("shop"):
        write("shop", 1, "new")
        cache.delete("old")
        assert cache.get_or_load("old", lambda: read("shop", 1)) == "new"
        assert cache.get_or_set("cold", lambda: read("shop", 1)) == "new"
        assert async_to_sync(cache.aget_or_load)("cold", lambda: 5) == 5
        assert (group.get(1), group.get(1)) == ((1, 1), (1, 2))
        assert squares.get_many([2, 3]) == {2: 4, 3: 9}
        assert (price(7), price(7)) == ((7, 3), (7, 4))
        assert (others("old"), others("cold")) == (1, None)
    assert (others("old"), others("cold")) == (None, None)
    assert (group.get(1), group.get(1)) == ((1, 5), (1, 5))


def test_a_hit_in_it_is_a_hit(databases, cache):
    """Keys that the transaction has not changed come from L1 as ever."""
    cache.set_many({"key": 1, "other": 2})
    with atomic("shop"), cache.transaction("shop"):
        cache.delete("other")
        assert hits_of(cache, lambda: cache.get("key")) == 1
        assert hits_of(cache, lambda: cache.get_or_load("key", pytest.fail)) == 1


def test_what_is_held_is_hidden_until_the_commit_also_past_the_block(
    databases, cache, others
):
    """As with ATOMIC_REQUESTS.  A change outside of the block acts at once."""
    calls = Calls()
    cache.set("key", "old")
    with atomic("shop"):
        with cache.transaction("shop"):
            cache.delete("key")
        assert cache.get_or_load("key", calls) == 1
        assert cache.get_or_load("key", calls) == 2
        cache.set("free", 1)
        assert (others("key"), others("free")) == ("old", 1)
        assert hits_of(cache, lambda: cache.get("free")) == 1
    assert cache.get_or_load("key", calls) == 3
    assert cache.get_or_load("key", calls) == 3


def test_without_a_transaction_all_acts_at_once(databases, cache, others):
    """In autocommit, in another database's transaction, and before the atomic block."""
    with cache.transaction("shop"):
        cache.set("key", 1)
        assert others("key") == 1
        cache.on_commit("shop").delete("key")
        assert others("key") is None
        with atomic("shop"):
            cache.set("late", 1)
            assert others("late") is None
        with atomic("stock"):
            cache.set("key", 2)
            assert others("key") == 2


def test_each_database_has_its_own(databases, cache, others):
    """Its commit deletes what belongs to it."""
    cache.set_many({"a": 1, "b": 2, "c": 3})
    with atomic("shop"):
        cache.on_commit("shop").delete("a")
        with atomic("stock"):
            cache.on_commit("stock").delete("b")
            with cache.transaction("shop"), cache.transaction("stock"):
                cache.delete("c")
        assert (others("a"), others("b"), others("c")) == (1, None, None)
    assert others("a") is None
    with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
        cache.transaction("nowhere")


def test_what_one_thread_holds_is_not_hidden_from_another_transaction(databases, cache):
    """Each owner has its own keys."""
    cache.set_many({"a": 1, "b": 2})

    def read_in_block():
        try:
            with atomic("stock"), cache.transaction("stock"):
                cache.delete("b")
                return cache.get_many(["a", "b"])
        finally:
            connections["stock"].close()

    with atomic("shop"), cache.transaction("shop"):
        cache.delete("a")
        assert elsewhere(read_in_block) == {"a": 1}
        assert cache.get_many(["a", "b"]) == {}
    assert cache.get("a") is None


def test_manual_transactions_are_refused_as_django_refuses_them(databases, cache):
    """When the commit will be cannot be known."""
    transaction.set_autocommit(False, using="shop")
    try:
        with (
            pytest.raises(TransactionManagementError, match="manual"),
            cache.transaction("shop"),
        ):
            cache.delete("key")
        with pytest.raises(TransactionManagementError, match="manual"):
            cache.on_commit("shop").delete("key")
    finally:
        transaction.rollback(using="shop")
        transaction.set_autocommit(True, using="shop")


def test_as_a_decorator(databases, cache, others):
    """The whole function is the block."""

    @atomic("shop")
    @cache.transaction("shop")
    def change(value):
        cache.set("key", value)
        assert others("key") is None
        return value

    assert [change(1), change(2)] == [1, 2]


def test_a_block_that_is_kept(databases, cache, others):
    """It can be entered again, by another thread as well, but not twice at a time."""
    block = cache.transaction("shop")

    def change():
        here = caches["default"]
        here.set("key", 1)
        with atomic("shop"):
            with block:
                here.delete("key")
                assert here.get("key") is None
            assert others("key") == 1
        gone = here.get("key") is None
        connections["shop"].close()
        return gone

    assert [elsewhere(change), elsewhere(change)] == [True, True]
    with block, pytest.raises(RuntimeError, match="is entered already"), block:
        pass


def test_a_decorated_function_in_another_thread(databases, cache):
    """It is called in the transaction of its caller, not where it was decorated."""
    cache.set("key", 1)

    @cache.transaction("shop")
    def change():
        caches["default"].delete("key")
        assert elsewhere(lambda: caches["default"].get("key")) == 1
        raise Undo

    def roll_back():
        with pytest.raises(Undo), atomic("shop"):
            change()
        connections["shop"].close()
        return True

    assert elsewhere(roll_back)
    assert cache.get("key") == 1


def test_hooks_that_run_earlier_find_nothing_either(databases, cache):
    """Between commit and delete the thread reads past the cache."""
    cache.set("key", "old")
    seen = []
    with atomic("shop"):
        transaction.on_commit(lambda: seen.append(cache.get("key")), using="shop")
        cache.on_commit("shop").delete("key")
    assert seen == [None]


def test_a_robust_one_lets_later_hooks_run(databases, bridge, redis_server_factory):
    """With ON_ERROR="raise" the error of a delete would end them."""
    server = redis_server_factory()
    cache = bridge(LOCATION=server.url, OPTIONS={"ON_ERROR": "raise"})
    server.stop()
    ran = []
    for robust in (True, False):
        with ExitStack() as stack:
            if not robust:
                stack.enter_context(pytest.raises(Exception, match="refused"))
            stack.enter_context(atomic("shop"))
            cache.on_commit("shop", robust=robust).delete("key")
            transaction.on_commit(partial(ran.append, robust), using="shop")
    assert ran == [True]


def test_a_view_in_a_thread_of_an_async_site(databases, cache, others):
    """``sync_to_async`` and ``async_to_sync`` keep the context; other tasks are out."""
    cache.set("key", "old")
    late = []

    async def read_later(go):
        await go.wait()
        late.append(await cache.aget_or_load("key", lambda: "loaded later"))

    async def inside():
        assert await cache.adelete("key")
        assert await cache.aget("key") is None
        load = sync_to_async(partial(read, "shop", 1))
        assert await cache.aget_or_load("key", load) == "new"

    def view():
        with atomic("shop"), cache.transaction("shop"):
            write("shop", 1, "new")
            async_to_sync(inside)()
            assert others("key") == "old"
        return cache.get("key")

    async def serve():
        go = asyncio.Event()
        task = asyncio.create_task(read_later(go))
        assert await sync_to_async(view)() is None
        assert await cache.aget("key") is None
        go.set()
        await task
        return await cache.aget("key")

    assert asyncio.run(serve()) == late[0] == "loaded later"


def test_a_task_that_outlives_the_block_is_out_of_it(cache):
    """Its context is a copy of one that was inside."""

    async def serve():
        go = asyncio.Event()

        async def work():
            await go.wait()
            await cache.aset("key", 1)
            return await cache.aget("key")

        with cache.transaction():
            task = asyncio.create_task(work())
        go.set()
        return await task

    assert asyncio.run(serve()) == 1


def test_callbacks_can_be_captured(databases, cache):
    """In a TestCase, which never commits, they do what the commit would do."""
    cache.set_many({"key": 1, "other": 1})
    capture = partial(TestCase.captureOnCommitCallbacks, using="shop")
    with atomic("shop"):
        with capture() as callbacks:
            cache.on_commit("shop").delete("key")
        assert len(callbacks) == 1
        assert cache.get("key") is None
        with capture(execute=True), cache.transaction("shop"):
            cache.delete("other")
            cache.set("other", 2)
        assert cache.get("other") is None
        cache.set("other", 3)
        assert cache.get("other") == 3
        transaction.set_rollback(True, "shop")


@pytest.mark.every_store
def test_a_load_from_before_the_commit_is_not_stored_after_it(databases, cache):
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
    loading = threading.Thread(
        target=lambda: answers.append(
            caches["default"].get_or_load("row", load_slowly, 60, lease_ttl=PATIENCE_S)
        )
    )
    loading.start()
    assert has_read.wait(PATIENCE_S)
    with atomic("shop"), cache.transaction("shop"):
        write("shop", 1, "new")
        cache.delete("row")
    go_on.set()
    loading.join(PATIENCE_S)
    assert answers == ["old"]
    assert cache.get_or_load("row", lambda: read("shop", 1)) == "new"


KEYS = ("a", "b", "c")
STEPS = strategies.recursive(
    strategies.one_of(
        strategies.tuples(strategies.just("delete"), strategies.sampled_from(KEYS)),
        strategies.tuples(strategies.just("set"), strategies.sampled_from(KEYS)),
        strategies.tuples(strategies.just("check"), strategies.none()),
    ),
    lambda steps: strategies.tuples(
        strategies.sampled_from(["commit", "rollback", "block"]),
        strategies.lists(steps, max_size=4),
    ),
    max_leaves=12,
)


class Model:
    """What the thread must see: plain sets, copied at every savepoint."""

    def __init__(self, cache):
        self.cache = cache
        self.held = set()
        self.stored = set(KEYS)
        self.depth = 0
        self.blocks = 0

    def run(self, steps):
        for name, what in steps:
            getattr(self, f"do_{name}")(what)
            self.do_check(None)

    def _change(self, key, left):
        if self.depth and self.blocks:
            self.held.add(key)
        else:
            self.stored = left

    def do_delete(self, key):
        self.cache.delete(key)
        self._change(key, self.stored - {key})

    def do_set(self, key):
        self.cache.set(key, key)
        self._change(key, self.stored | {key})

    def do_check(self, _):
        seen = self.cache.get_many(KEYS)
        assert set(seen) == self.stored - self.held
        assert {key for key in KEYS if self.cache.get(key)} == set(seen)

    def do_block(self, steps):
        self.blocks += 1
        with self.cache.transaction("shop"):
            self.run(steps)
        self.blocks -= 1

    def do_commit(self, steps):
        self._atomic(steps, None)

    def do_rollback(self, steps):
        self._atomic(steps, Undo)

    def _atomic(self, steps, error):
        before = set(self.held)
        self.depth += 1
        try:
            with atomic("shop"):
                self.run(steps)
                if error:
                    raise error
        except Undo:
            self.held = before
        self.depth -= 1
        if not self.depth:
            self.stored -= self.held
            self.held = set()


@given(strategies.lists(STEPS, max_size=6))
@settings(max_examples=60)
def test_any_order_of_savepoints_rollbacks_and_commits(transacting, steps):
    """What is seen, and what is left, is what plain sets say."""
    cache = transacting
    cache.set_many({key: key for key in KEYS})
    model = Model(cache)
    model.run(steps)
    assert set(cache.get_many(KEYS)) == model.stored
    assert not cache._binding.held.in_use


@pytest.fixture(scope="module")
def transacting(tmp_path_factory, django_db_blocker):
    """Return one cache in memory for all examples, with a database."""
    folder = tmp_path_factory.mktemp("shop")
    with django_db_blocker.unblock(), sqlite_files(folder, "shop"):
        yield _in_memory()


def _in_memory():
    from cachebridge.django_backend import CacheBridge

    cache = CacheBridge("memory://transactions", {"TIMEOUT": 300})
    return eventually(lambda: cache.set("a", 1) or (cache.get("a") and cache))
