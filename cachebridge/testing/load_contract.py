"""The part of the contract of stores that is about loading: leases and load records."""
# ruff: noqa: S101, PLR2004 - asserts and their numbers are what this module is made of

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from cachebridge.core.lease import LoadedRaw, LoadReply, Look, LookState, LookTerms
from cachebridge.testing.message_contract import MESSAGE, MINUTE_MS, Published

if TYPE_CHECKING:
    from cachebridge.l2.base import L2Store

_TERMS: Final = LookTerms(MINUTE_MS)
_REFRESH: Final = _TERMS._replace(is_refresh=True)
_NO_LEASE: Final = LookTerms(0)
_KEEP_MS: Final = 10_000


class L2LoadContract:
    """One load per key, voided by every write; copies and marks for later."""

    gives_leases: ClassVar[bool] = True
    """False for a store on which processes cannot keep out of each other's way."""

    if TYPE_CHECKING:
        short_ms: ClassVar[int]

        def pass_time(self, seconds: float) -> None:
            """See ``L2MessageContract``."""

    @staticmethod
    def _store(
        store: L2Store,
        look: Look,
        raw: bytes = b"loaded",
        ttl_ms: int | None = MINUTE_MS,
        *,
        keep_ms: int = 0,
        cost_ms: int = 0,
        message: bytes | None = None,
    ) -> LoadReply:
        loaded = LoadedRaw(raw, ttl_ms, keep_ms, cost_ms)
        return store.store_loaded("k", loaded, look, message)

    def _leave_copy(self, store: L2Store) -> None:
        """Let a loaded value expire and leave its copy."""
        look = store.look("k", b"first", _TERMS)
        self._store(store, look, b"old", self.short_ms, keep_ms=_KEEP_MS)
        self.pass_time(self.short_ms / 1000 + 0.03)

    def test_look_at_a_value(self, store: L2Store) -> None:
        """What is there is returned, with its TTL, and nothing is leased."""
        store.store([("k", b"v")], MINUTE_MS, None)
        look = store.look("k", b"a", _TERMS)
        assert (look.state, look.raw) == (LookState.HIT, b"v")
        assert MINUTE_MS - 5_000 < look.ttl_ms <= MINUTE_MS

    def test_one_lease(self, store: L2Store) -> None:
        """The first gets the lease; the others learn how long it lasts at most."""
        first = store.look("k", b"a", _TERMS)
        assert (first.state, first.raw) == (LookState.LEASE, None)
        if not self.gives_leases:
            assert store.look("k", b"b", _TERMS).state is LookState.LEASE
            return
        second = store.look("k", b"b", _TERMS)
        assert (second.state, second.raw) == (LookState.BUSY, None)
        assert MINUTE_MS - 5_000 < second.wait_ms <= MINUTE_MS
        assert store.look("k", b"a", _TERMS).state is LookState.LEASE
        assert store.look("other", b"b", _TERMS).state is LookState.LEASE

    def test_stored(self, store: L2Store, published: Published) -> None:
        """The value is there for everybody, with one message; the lease has ended."""
        look = store.look("k", b"a", _TERMS)
        assert published() == []
        assert self._store(store, look, message=MESSAGE) == LoadReply(stored=True)
        assert published() == [MESSAGE]
        raw, ttl_ms = store.get("k")
        assert raw == b"loaded"
        assert 0 < ttl_ms <= MINUTE_MS
        store.delete(["k"], None)
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    def test_stored_without_expiry(self, store: L2Store) -> None:
        """A TTL of None is without expiry."""
        look = store.look("k", b"a", _TERMS)
        self._store(store, look, ttl_ms=None, keep_ms=5, cost_ms=5)
        assert store.get("k") == (b"loaded", -1)

    def test_a_delete_voids_the_load(
        self, store: L2Store, published: Published
    ) -> None:
        """What was loaded before a delete is not stored after it."""
        if not self.gives_leases:
            return
        look = store.look("k", b"a", _TERMS)
        store.delete(["k"], None)
        reply = self._store(store, look, message=MESSAGE)
        assert reply == LoadReply(False, None, -2)
        assert store.get("k") == (None, -2)
        assert published() == []

    def test_every_write_voids_the_load(self, store: L2Store) -> None:
        """Also one whose value is gone again by then."""
        if not self.gives_leases:
            return
        look = store.look("k", b"a", _TERMS)
        store.store([("k", b"v")], MINUTE_MS, None)
        reply = self._store(store, look)
        assert (reply.stored, reply.raw) == (False, b"v")
        assert reply.ttl_ms > 0
        for adds in (False, True):
            store.delete(["k"], None)
            look = store.look("k", b"a", _TERMS)
            if adds:
                store.add("k", b"1", self.short_ms // 3, None)
            else:
                store.store([("k", b"1"), ("l", b"1")], self.short_ms // 3, None)
            self.pass_time(self.short_ms / 1000)
            assert self._store(store, look) == LoadReply(False, None, -2)

    def test_a_change_voids_the_refresh(self, store: L2Store) -> None:
        """A refresh stores nothing over what was counted or replaced meanwhile."""
        if not (self.gives_leases and self._counts(store)):
            return
        for counts in (True, False):
            store.store([("k", b"1")], None, None)
            look = store.look("k", b"a", _REFRESH)
            if counts:
                store.incr("k", 1, None)
            else:
                store.replace("k", b"1", b"2", None)
            reply = self._store(store, look)
            assert (reply.stored, reply.raw) == (False, b"2")

    @staticmethod
    def _counts(store: L2Store) -> bool:
        store.store([("number", b"1")], None, None)
        return store.incr("number", 1, None) == 2

    def test_a_failed_add_voids_nothing(self, store: L2Store) -> None:
        """Nor does a read or a new TTL."""
        if not self.gives_leases:
            return
        store.store([("k", b"v")], None, None)
        look = store.look("k", b"a", _REFRESH)
        assert not store.add("k", b"1", None, None)
        store.get("k")
        store.touch("k", MINUTE_MS, None)
        assert self._store(store, look).stored

    def test_who_takes_over_shares_the_generation(self, store: L2Store) -> None:
        """A lease that ran out voids nothing: the first to store wins."""
        if not self.gives_leases:
            return
        first = store.look("k", b"a", _NO_LEASE)
        self.pass_time(0.005)
        second = store.look("k", b"b", _NO_LEASE)
        assert second.state is LookState.LEASE
        assert self._store(store, first, b"1").stored
        reply = self._store(store, second, b"2")
        assert (reply.stored, reply.raw) == (False, b"1")

    def test_joining(self, store: L2Store) -> None:
        """Who must not wait loads beside the owner."""
        store.look("k", b"a", _TERMS)
        joined = store.look("k", b"b", _TERMS._replace(joins=True))
        assert joined.state is LookState.LEASE
        assert self._store(store, joined).stored

    def test_release(self, store: L2Store, published: Published) -> None:
        """The next may load at once, and is told; only the owner can release."""
        look = store.look("k", b"a", _TERMS)
        if not self.gives_leases:
            assert store.release("k", look, 0, MESSAGE) is None
            return
        assert store.release("k", look._replace(token=b"x"), 0, MESSAGE) is None
        assert store.look("k", b"b", _TERMS).state is LookState.BUSY
        assert published() == []
        assert store.release("k", look, 0, MESSAGE) is None
        assert published() == [MESSAGE]
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    def test_release_for_everybody(self, store: L2Store, published: Published) -> None:
        """What nobody can share lets all load side by side, for a while."""
        look = store.look("k", b"a", _TERMS)
        store.release_unshared("k", look, MINUTE_MS, MESSAGE)
        first, second = store.look("k", b"b", _TERMS), store.look("k", b"c", _TERMS)
        assert first.state is second.state is LookState.LEASE
        if self.gives_leases:
            assert published() == [MESSAGE]
        assert self._store(store, first).stored
        assert not self._store(store, second).stored

    # -- copies past their TTL -----------------------------------------------------

    def test_a_copy_serves_past_the_ttl(self, store: L2Store) -> None:
        """For who accepts its age; for the others the key is just gone."""
        if not self.gives_leases:
            return
        self._leave_copy(store)
        assert store.get("k") == (None, -2)
        assert not store.exists("k")
        stale = store.look("k", b"a", _TERMS._replace(stale_ms=_KEEP_MS))
        assert (stale.state, stale.raw) == (LookState.STALE, b"old")
        assert store.look("k", b"a", _TERMS._replace(stale_ms=1)).state is (
            LookState.LEASE
        )

    def test_every_write_takes_the_copy_along(self, store: L2Store) -> None:
        """A deleted value comes back in no form."""
        if not self.gives_leases:
            return
        self._leave_copy(store)
        store.delete(["k"], None)
        look = store.look("k", b"a", _TERMS._replace(stale_ms=_KEEP_MS))
        assert look.state is LookState.LEASE
        assert store.release("k", look, _KEEP_MS, None) is None

    def test_refresh_of_a_copy(self, store: L2Store) -> None:
        """One refreshes, the copy serves the others until then."""
        if not self.gives_leases:
            return
        self._leave_copy(store)
        serving = _TERMS._replace(stale_ms=_KEEP_MS)
        look = store.look("k", b"a", serving._replace(is_refresh=True))
        assert (look.state, look.raw) == (LookState.LEASE, None)
        again = store.look("k", b"b", serving._replace(is_refresh=True))
        assert again.state is LookState.BUSY
        assert store.look("k", b"b", serving).state is LookState.STALE
        assert self._store(store, look, b"new").stored
        assert store.look("k", b"b", serving).raw == b"new"

    def test_refresh_of_a_value(self, store: L2Store) -> None:
        """The lease is given beside the value, which stays until the new one comes."""
        if not self.gives_leases:
            return
        first = store.look("k", b"a", _TERMS)
        self._store(store, first, b"old", cost_ms=7)
        assert store.look("k", b"b", _TERMS).cost_ms == 7
        look = store.look("k", b"b", _REFRESH)
        assert (look.state, look.raw, look.cost_ms) == (LookState.LEASE, b"old", 7)
        assert look.ttl_ms > 0
        assert store.look("k", b"c", _TERMS).raw == b"old"
        assert self._store(store, look, b"new").stored
        assert store.get("k")[0] == b"new"

    def test_a_copy_serves_after_an_error(self, store: L2Store) -> None:
        """The failed lease stays, so that the copy serves instead of another try."""
        if not self.gives_leases:
            return
        self._leave_copy(store)
        terms = _TERMS._replace(stale_if_error_ms=_KEEP_MS)
        look = store.look("k", b"a", terms)
        assert look.state is LookState.LEASE
        waiting = store.look("k", b"b", terms)
        assert (waiting.state, waiting.raw) == (LookState.BUSY, None)
        assert store.release("k", look, _KEEP_MS, None) == b"old"
        served = store.look("k", b"b", terms)
        assert (served.state, served.raw) == (LookState.BUSY, b"old")
        assert store.look("k", b"b", _TERMS).raw is None

    def test_a_copy_too_old_for_an_error(self, store: L2Store) -> None:
        """Then the error stands, and the lease is free for the next."""
        if not self.gives_leases:
            return
        self._leave_copy(store)
        look = store.look("k", b"a", _TERMS)
        assert store.release("k", look, 1, None) is None
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    # -- no such thing ---------------------------------------------------------------

    def test_absence(self, store: L2Store, published: Published) -> None:
        """The mark says so for its time; to everything else the key does not exist."""
        look = store.look("k", b"a", _TERMS)
        stored = store.store_absent("k", self.short_ms, look, MESSAGE).stored
        assert stored is self.gives_leases
        if not self.gives_leases:
            return
        assert published() == [MESSAGE]
        absent = store.look("k", b"b", _TERMS)
        assert absent.state is LookState.ABSENT
        assert 0 < absent.ttl_ms <= self.short_ms
        assert store.get("k") == (None, -2)
        assert not store.exists("k")
        self.pass_time(self.short_ms / 1000 + 0.03)
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    def test_absence_ends_with_a_write(self, store: L2Store) -> None:
        """An add wins where nothing exists."""
        look = store.look("k", b"a", _TERMS)
        store.store_absent("k", MINUTE_MS, look, None)
        assert store.add("k", b"v", None, None)
        assert store.look("k", b"b", _TERMS).raw == b"v"
        store.delete(["k"], None)
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    def test_absence_of_what_existed(self, store: L2Store) -> None:
        """A refresh may find that the thing is gone: then so is the value."""
        if not self.gives_leases:
            return
        store.store([("k", b"v")], None, None)
        look = store.look("k", b"a", _REFRESH)
        assert store.store_absent("k", 0, look, None).stored
        assert store.get("k") == (None, -2)
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE

    def test_absence_under_a_void_generation(self, store: L2Store) -> None:
        """A write that came meanwhile is right, not the loader."""
        if not self.gives_leases:
            return
        look = store.look("k", b"a", _TERMS)
        store.store([("k", b"v")], None, None)
        assert store.store_absent("k", MINUTE_MS, look, None).raw == b"v"
        store.delete(["k"], None)
        look = store.look("k", b"a", _TERMS)
        store.delete(["k"], None)
        assert not store.store_absent("k", MINUTE_MS, look, None).stored
        assert store.look("k", b"b", _TERMS).state is LookState.LEASE
