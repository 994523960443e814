"""Mutants of the rules for one L1 per host; see ``mutants.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.coherence import Coherence
from cachebridge.core.host.sharing import Sharing
from cachebridge.core.write import Write
from cachebridge.l1.shared.layout import HEADER
from tests.proofs.schedules.host import HostWorld
from tests.proofs.schedules.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.host.sharing import SharedBytes

_on_keys = Coherence.on_keys
_write_exit = Write.__exit__
_settle = Sharing._settle
_shed = HostWorld._shed


def _without_store(rules: Coherence, act: Callable[[], None]) -> Sharing:
    """Do something as if there were no shared store; return what there is."""
    sharing, rules.sharing = rules.sharing, None
    try:
        act()
    finally:
        rules.sharing = sharing
    assert sharing is not None
    return sharing


def _own_l1_first(
    self: Coherence, origin: bytes, write_id: int, keys: Sequence[str]
) -> None:
    sharing = _without_store(self, lambda: _on_keys(self, origin, write_id, keys))
    if sharing.store is not None:
        sharing.store.look(keys[0])  # another thread may go on here
    sharing.drop(keys)


def _end_without_drop(self: Write, *error: Any) -> None:
    _without_store(self._rules, lambda: _write_exit(self, *error))


def _store_by_fresh_token(
    self: Sharing, store: SharedBytes, key: str, *rest: Any
) -> None:
    raw, expires, token = rest
    fresh = None if token is None else store.token(key)
    _settle(self, store, key, raw, expires, fresh)


def _store_over_all(self: Sharing, store: SharedBytes, key: str, *rest: Any) -> None:
    raw, expires, token = rest
    if raw is not None and token == store.token(key):
        store.put(key, raw, expires)
    else:
        _settle(self, store, key, *rest)


def _shed_without_bump(self: HostWorld, index: int) -> None:
    words = self.shared.ring.words
    generations = slice(HEADER, self.shared.ring.first_bucket)
    before = words[generations].tolist()
    _shed(self, index)
    for number, generation in enumerate(before):
        words[HEADER + number] = generation


def _join_unproven(self: Sharing, _sent_at: float) -> None:
    self.is_guardian = True


def _last_applies(
    self: Coherence, origin: bytes, write_id: int, keys: Sequence[str]
) -> None:
    assert self.sharing is not None
    store: Any = self.sharing.store
    alive = [each for each in store._world.processes if not each.dead]
    if alive[-1].engine.rules is self:
        _on_keys(self, origin, write_id, keys)
    else:
        _without_store(self, lambda: _on_keys(self, origin, write_id, keys))


HOST_MUTANTS = (
    Mutant(
        "own L1 before the shared store",
        ((Coherence, "on_keys", _own_l1_first),),
        ("host-order",),
    ),
    Mutant(
        "no drop at the end of an own write",
        ((Write, "__exit__", _end_without_drop),),
        ("host-delete",),
    ),
    Mutant(
        "eviction bumps nothing",
        ((HostWorld, "_shed", _shed_without_bump),),
        ("host-shed",),
    ),
    Mutant(
        "joins without a proof",
        ((Sharing, "on_proof", _join_unproven),),
        ("host-join",),
    ),
    Mutant(
        "fills store without comparing",
        ((Sharing, "_settle", _store_by_fresh_token),),
        ("host-fill",),
    ),
    Mutant(
        "the last fill overwrites",
        ((Sharing, "_settle", _store_over_all),),
        ("host-order",),
    ),
    Mutant(
        "one process applies for all",
        ((Coherence, "on_keys", _last_applies),),
        ("host-fill",),
    ),
)
