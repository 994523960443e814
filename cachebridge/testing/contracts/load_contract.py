"""The part of the contract of stores that is about loading: leases and load records."""
# ruff: noqa: S101, PLR2004 - asserts and their numbers are what this module is made of

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.lease import (
    LeaseGet,
    LeaseState,
    LeaseTerms,
    LoadedRaw,
    LoadReply,
)
from cachebridge.testing.contracts.message_contract import (
    MESSAGE,
    MINUTE_MS,
    L2MessageContract,
    Published,
)

if TYPE_CHECKING:
    from cachebridge.testing.contracts.message_contract import StoreFace

_TERMS: Final = LeaseTerms(MINUTE_MS)
_REFRESH: Final = _TERMS._replace(is_refresh=True)
_NO_LEASE: Final = LeaseTerms(0)
_KEEP_MS: Final = 10_000


class L2LoadContract(L2MessageContract):
    """One load per key, voided by every write; copies and marks for later."""

    @staticmethod
    def _store(
        store: StoreFace,
        lease: LeaseGet,
        raw: bytes = b"loaded",
        ttl_ms: int | None = MINUTE_MS,
        *,
        keep_ms: int = 0,
        cost_ms: int = 0,
        message: bytes | None = None,
    ) -> LoadReply:
        loaded = LoadedRaw(raw, ttl_ms, keep_ms, cost_ms)
        reply: LoadReply = store.store_loaded("k", loaded, lease, message)
        return reply

    def _leave_copy(self, store: StoreFace) -> None:
        """Let a loaded value expire and leave its copy."""
        lease = store.get_or_lease("k", b"first", _TERMS)
        self._store(store, lease, b"old", self.short_ms, keep_ms=_KEEP_MS)
        self.pass_time(self.short_ms / 1000 + 0.03)

    def test_a_value_is_served(self, store: StoreFace) -> None:
        """A value is returned with its TTL, and nothing is leased."""
        store.store([("k", b"v")], MINUTE_MS, None)
        lease = store.get_or_lease("k", b"a", _TERMS)
        assert (lease.state, lease.raw) == (LeaseState.HIT, b"v")
        assert MINUTE_MS - 5_000 < lease.ttl_ms <= MINUTE_MS

    def test_one_lease(self, store: StoreFace) -> None:
        """The first caller gets the lease; others learn how long it lasts at most."""
        first = store.get_or_lease("k", b"a", _TERMS)
        assert (first.state, first.raw) == (LeaseState.LEASE, None)
        second = store.get_or_lease("k", b"b", _TERMS)
        assert (second.state, second.raw) == (LeaseState.BUSY, None)
        assert MINUTE_MS - 5_000 < second.wait_ms <= MINUTE_MS
        assert store.get_or_lease("k", b"a", _TERMS).state is LeaseState.LEASE
        assert store.get_or_lease("other", b"b", _TERMS).state is LeaseState.LEASE

    def test_stored(self, store: StoreFace, published: Published) -> None:
        """Every caller reads the value; one message is published, the lease ended."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        assert published() == []
        assert self._store(store, lease, message=MESSAGE) == LoadReply(stored=True)
        assert published() == [MESSAGE]
        raw, ttl_ms = store.get("k")
        assert raw == b"loaded"
        assert 0 < ttl_ms <= MINUTE_MS
        store.delete(["k"], None)
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    def test_stored_without_expiry(self, store: StoreFace) -> None:
        """A TTL of None is without expiry."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        self._store(store, lease, ttl_ms=None, keep_ms=5, cost_ms=5)
        assert store.get("k") == (b"loaded", -1)

    def test_a_delete_voids_the_load(
        self, store: StoreFace, published: Published
    ) -> None:
        """What was loaded before a delete is not stored after it."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.delete(["k"], None)
        reply = self._store(store, lease, message=MESSAGE)
        assert reply == LoadReply(False, None, -2)
        assert store.get("k") == (None, -2)
        assert published() == []

    def test_every_write_voids_the_load(self, store: StoreFace) -> None:
        """Also one whose value is gone again by then."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.store([("k", b"v")], MINUTE_MS, None)
        reply = self._store(store, lease)
        assert (reply.stored, reply.raw) == (False, b"v")
        assert reply.ttl_ms > 0
        for adds in (False, True):
            store.delete(["k"], None)
            lease = store.get_or_lease("k", b"a", _TERMS)
            if adds:
                store.add("k", b"1", self.short_ms // 3, None)
            else:
                store.store([("k", b"1"), ("l", b"1")], self.short_ms // 3, None)
            self.pass_time(self.short_ms / 1000)
            assert self._store(store, lease) == LoadReply(False, None, -2)

    def test_a_change_voids_the_refresh(self, store: StoreFace) -> None:
        """A refresh stores nothing over what was counted or replaced meanwhile."""
        for counts in (True, False):
            store.store([("k", b"1")], None, None)
            lease = store.get_or_lease("k", b"a", _REFRESH)
            if counts:
                store.incr("k", 1, None)
            else:
                store.replace("k", b"1", b"2", None)
            reply = self._store(store, lease)
            assert (reply.stored, reply.raw) == (False, b"2")

    def test_a_failed_add_voids_nothing(self, store: StoreFace) -> None:
        """Nor does a read or a new TTL."""
        store.store([("k", b"v")], None, None)
        lease = store.get_or_lease("k", b"a", _REFRESH)
        assert not store.add("k", b"1", None, None)
        store.get("k")
        store.touch("k", MINUTE_MS, None)
        assert self._store(store, lease).stored

    def test_a_load_that_takes_over_shares_the_generation(
        self, store: StoreFace
    ) -> None:
        """A lease that ran out voids nothing: the first to store wins."""
        first = store.get_or_lease("k", b"a", _NO_LEASE)
        self.pass_time(0.005)
        second = store.get_or_lease("k", b"b", _NO_LEASE)
        assert second.state is LeaseState.LEASE
        assert self._store(store, first, b"1").stored
        reply = self._store(store, second, b"2")
        assert (reply.stored, reply.raw) == (False, b"1")

    def test_joining(self, store: StoreFace) -> None:
        """A caller that must not wait loads beside the owner."""
        store.get_or_lease("k", b"a", _TERMS)
        joined = store.get_or_lease("k", b"b", _TERMS._replace(joins=True))
        assert joined.state is LeaseState.LEASE
        assert self._store(store, joined).stored

    def test_release(self, store: StoreFace, published: Published) -> None:
        """The next caller may load at once, and is told; only the owner can release."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        assert store.release("k", lease._replace(token=b"x"), 0, MESSAGE) is None
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.BUSY
        assert published() == []
        assert store.release("k", lease, 0, MESSAGE) is None
        assert published() == [MESSAGE]
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    def test_release_unshared(self, store: StoreFace, published: Published) -> None:
        """After a value that no caller can share, all load side by side for a while."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.release_unshared("k", lease, MINUTE_MS, MESSAGE)
        first, second = (
            store.get_or_lease("k", b"b", _TERMS),
            store.get_or_lease("k", b"c", _TERMS),
        )
        assert first.state is second.state is LeaseState.LEASE
        assert published() == [MESSAGE]
        assert self._store(store, first).stored
        assert not self._store(store, second).stored

    # -- copies past their TTL -----------------------------------------------------

    def test_a_copy_serves_past_the_ttl(self, store: StoreFace) -> None:
        """It serves callers that accept its age; for the others the key is gone."""
        self._leave_copy(store)
        assert store.get("k") == (None, -2)
        assert not store.exists("k")
        stale = store.get_or_lease("k", b"a", _TERMS._replace(stale_ms=_KEEP_MS))
        assert (stale.state, stale.raw) == (LeaseState.STALE, b"old")
        assert store.get_or_lease("k", b"a", _TERMS._replace(stale_ms=1)).state is (
            LeaseState.LEASE
        )

    def test_every_write_takes_the_copy_along(self, store: StoreFace) -> None:
        """A deleted value comes back in no form."""
        self._leave_copy(store)
        store.delete(["k"], None)
        lease = store.get_or_lease("k", b"a", _TERMS._replace(stale_ms=_KEEP_MS))
        assert lease.state is LeaseState.LEASE
        assert store.release("k", lease, _KEEP_MS, None) is None

    def test_the_copy_follows_a_touch(self, store: StoreFace) -> None:
        """It becomes stale when the TTL is over that the value was given last."""
        serving = _TERMS._replace(stale_ms=_KEEP_MS)
        lease = store.get_or_lease("k", b"a", serving)
        self._store(store, lease, b"old", MINUTE_MS, keep_ms=_KEEP_MS)
        assert store.touch("k", self.short_ms, None)
        self.pass_time(self.short_ms / 1000 + 0.03)
        assert store.get("k") == (None, -2)
        stale = store.get_or_lease("k", b"b", serving)
        assert (stale.state, stale.raw) == (LeaseState.STALE, b"old")
        lease = store.get_or_lease("k", b"b", _TERMS._replace(stale_ms=1))
        assert lease.state is LeaseState.LEASE
        self._store(store, lease, b"new", self.short_ms, keep_ms=_KEEP_MS)
        assert store.touch("k", MINUTE_MS, None)
        self.pass_time(self.short_ms / 1000 + 0.03)
        assert store.get_or_lease("k", b"c", serving).state is LeaseState.HIT
        assert store.touch("k", None, None)
        assert store.get_or_lease("k", b"c", serving).ttl_ms == -1
        store.delete(["k"], None)
        assert store.get_or_lease("k", b"c", serving).state is LeaseState.LEASE

    def test_a_touch_voids_no_refresh(self, store: StoreFace) -> None:
        """The value is the same: what was loaded meanwhile takes its place."""
        store.store([("k", b"old")], MINUTE_MS, None)
        lease = store.get_or_lease("k", b"a", _REFRESH)
        assert store.touch("k", 2 * MINUTE_MS, None)
        assert self._store(store, lease, b"new").stored
        assert store.get("k")[0] == b"new"

    def test_refresh_of_a_copy(self, store: StoreFace) -> None:
        """One refreshes, the copy serves the others until then."""
        self._leave_copy(store)
        serving = _TERMS._replace(stale_ms=_KEEP_MS)
        lease = store.get_or_lease("k", b"a", serving._replace(is_refresh=True))
        assert (lease.state, lease.raw) == (LeaseState.LEASE, None)
        again = store.get_or_lease("k", b"b", serving._replace(is_refresh=True))
        assert again.state is LeaseState.BUSY
        assert store.get_or_lease("k", b"b", serving).state is LeaseState.STALE
        assert self._store(store, lease, b"new").stored
        assert store.get_or_lease("k", b"b", serving).raw == b"new"

    def test_refresh_of_a_value(self, store: StoreFace) -> None:
        """The lease is given beside the value, which stays until the new one comes."""
        first = store.get_or_lease("k", b"a", _TERMS)
        self._store(store, first, b"old", cost_ms=7)
        assert store.get_or_lease("k", b"b", _TERMS).cost_ms == 7
        lease = store.get_or_lease("k", b"b", _REFRESH)
        assert (lease.state, lease.raw, lease.cost_ms) == (LeaseState.LEASE, b"old", 7)
        assert lease.ttl_ms > 0
        assert store.get_or_lease("k", b"c", _TERMS).raw == b"old"
        assert self._store(store, lease, b"new").stored
        assert store.get("k")[0] == b"new"

    def test_a_copy_serves_after_an_error(self, store: StoreFace) -> None:
        """The failed lease stays, so that the copy serves instead of another try."""
        self._leave_copy(store)
        terms = _TERMS._replace(stale_if_error_ms=_KEEP_MS)
        lease = store.get_or_lease("k", b"a", terms)
        assert lease.state is LeaseState.LEASE
        waiting = store.get_or_lease("k", b"b", terms)
        assert (waiting.state, waiting.raw) == (LeaseState.BUSY, None)
        assert store.release("k", lease, _KEEP_MS, None) == b"old"
        served = store.get_or_lease("k", b"b", terms)
        assert (served.state, served.raw) == (LeaseState.BUSY, b"old")
        assert store.get_or_lease("k", b"b", _TERMS).raw is None

    def test_a_copy_too_old_for_an_error(self, store: StoreFace) -> None:
        """Then the error stands, and the lease is free for the next."""
        self._leave_copy(store)
        lease = store.get_or_lease("k", b"a", _TERMS)
        assert store.release("k", lease, 1, None) is None
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    # -- no such thing ---------------------------------------------------------------

    def test_absence(self, store: StoreFace, published: Published) -> None:
        """The mark says so for its time; to everything else the key does not exist."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        is_over = self.timer(self.short_ms)
        assert store.store_absent("k", self.short_ms, lease, MESSAGE).stored
        assert published() == [MESSAGE]
        absent = store.get_or_lease("k", b"b", _TERMS)
        assert is_over() or (
            absent.state is LeaseState.ABSENT and 0 < absent.ttl_ms <= self.short_ms
        )
        assert store.get("k") == (None, -2)
        assert not store.exists("k")
        self.pass_time(self.short_ms / 1000 + 0.03)
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    def test_absence_ends_with_a_write(self, store: StoreFace) -> None:
        """An add wins where nothing exists."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.store_absent("k", MINUTE_MS, lease, None)
        assert store.add("k", b"v", None, None)
        assert store.get_or_lease("k", b"b", _TERMS).raw == b"v"
        store.delete(["k"], None)
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    def test_absence_of_what_existed(self, store: StoreFace) -> None:
        """A refresh may find that the thing is gone: then so is the value."""
        store.store([("k", b"v")], None, None)
        lease = store.get_or_lease("k", b"a", _REFRESH)
        assert store.store_absent("k", 0, lease, None).stored
        assert store.get("k") == (None, -2)
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE

    def test_absence_under_a_void_generation(self, store: StoreFace) -> None:
        """A write that came meanwhile is right, not the loader."""
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.store([("k", b"v")], None, None)
        assert store.store_absent("k", MINUTE_MS, lease, None).raw == b"v"
        store.delete(["k"], None)
        lease = store.get_or_lease("k", b"a", _TERMS)
        store.delete(["k"], None)
        assert not store.store_absent("k", MINUTE_MS, lease, None).stored
        assert store.get_or_lease("k", b"b", _TERMS).state is LeaseState.LEASE
