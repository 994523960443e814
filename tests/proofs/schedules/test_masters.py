"""Every master (I30), in every order of the steps of a cluster and a process."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from cachebridge.bus.masters import MastersBus, Sessions
from cachebridge.bus.settings import HOME
from cachebridge.core.coherence import Coherence
from cachebridge.engine.servers.redis_cluster import RedisCluster
from tests.proofs.schedules.masters import SCENARIOS, UNHEARD, explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

QUICK = {"start", "writes"}
"""Each takes about a second at most; so does each mutant, up to what it breaks."""

_sessions = RedisCluster.sessions
_on_change = MastersBus.on_change
_on_keys = Coherence.on_keys


def _cases(names: Iterable[str], quick: Iterable[str]) -> list[object]:
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.proof)
        for name in names
    ]


@pytest.mark.parametrize("name", _cases(SCENARIOS, QUICK))
def test_no_order_of_steps_breaks_an_invariant(name: str) -> None:
    """L1 hits in some of them, and everything comes to an end."""
    report = explore(SCENARIOS[name])
    assert not report.violation
    assert report.hits
    assert report.ends


def test_a_master_without_slots_is_not_heard() -> None:
    """The limit that ``docs/cluster.md`` names; a change here is news."""
    assert explore(UNHEARD).violation.startswith("I1: ")


# -- each part is needed ---------------------------------------------------------------


def _home_alone(self: RedisCluster) -> Any:
    return {server: tag for server, tag in _sessions(self).items() if tag == HOME}


def _latest(self: Sessions, session: Any, sent_at: float) -> float | None:
    with self._lock:
        self._proofs[session] = sent_at
        if not self._is_open or self._proofs.keys() < self._wanted:
            return None
        return max(self._proofs.values())


def _any(self: Sessions, _session: Any, sent_at: float) -> float | None:
    return sent_at


def _open_with_one(self: Sessions) -> None:
    if not self._is_open and self._subscribed & self._wanted:
        self._is_open = True
        self.receiver.on_subscribed()


def _want_without_break(self: Sessions, sessions: Any, *, is_whole: bool) -> None:
    with self._lock:
        self._wanted, self._is_whole = sessions, is_whole
        self._subscribed &= sessions
        for gone in self._proofs.keys() - sessions:
            del self._proofs[gone]
        self._open_if_possible()


def _unmoved_by_masters(self: MastersBus, reason: str) -> None:
    if "other masters" not in reason:
        _on_change(self, reason)


def _unmoved_by_guests(self: MastersBus, reason: str) -> None:
    if "not in the map" not in reason:
        _on_change(self, reason)


def _end_with_own_echo(
    self: Coherence, origin: bytes, write_id: int, keys: Any
) -> None:
    _on_keys(self, origin, write_id, keys)
    with self.lock:
        if origin == self.origin and self.fences.end(write_id):
            self.update_gate()


Patch = tuple[type, str, "Callable[..., Any]"]
MUTANTS: dict[str, tuple[tuple[Patch, ...], str]] = {
    "one session for all": (((RedisCluster, "sessions", _home_alone),), "writes"),
    "trust is that of the latest session": (((Sessions, "proven", _latest),), "late"),
    "any session proves all": (
        (
            (Sessions, "proven", _any),
            (Sessions, "_open_if_possible", _open_with_one),
        ),
        "start",
    ),
    "another set of masters is no break": (
        (
            (Sessions, "want", _want_without_break),
            (MastersBus, "on_change", _unmoved_by_masters),
        ),
        "takeover-late",
    ),
    "a guest is no break": (
        (
            (RedisCluster, "has_guests", lambda _self: False),
            (MastersBus, "on_change", _unmoved_by_guests),
        ),
        "guest",
    ),
    "a fence ends with the echo of one master": (
        ((Coherence, "on_keys", _end_with_own_echo),),
        "lock",
    ),
    "a fence ends with the heartbeat of one master": (
        ((Sessions, "proven", _latest),),
        "lock",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    """With one part switched off some order of the steps goes wrong."""
    patches, scenario = MUTANTS[name]
    with ExitStack() as patched:
        for each in patches:
            patched.enter_context(patch.object(*each))
        violation = explore(SCENARIOS[scenario]).violation
    assert violation.partition(": ")[0] in {"I1", "I11", "I23"}, violation
