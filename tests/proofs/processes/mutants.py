"""Rules that can be switched off in a worker, to see that the process test notices.

Only the workers of this test know them: each replaces one method of the library.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from cachebridge.bus.session import Session
from cachebridge.bus.settings import HOME
from cachebridge.core.coherence import NEVER, Coherence
from cachebridge.core.dropping.emptying import Emptying
from cachebridge.core.outage import OutageEntries
from cachebridge.engine.messages.outgoing import OutgoingMessages
from cachebridge.engine.operations import Operations
from cachebridge.engine.outage import fallbacks
from cachebridge.engine.outage.replay import Replay
from cachebridge.engine.servers.redis_cluster import RedisCluster
from cachebridge.engine.servers.redis_server import RedisServer
from cachebridge.l2.redis import client, load_scripts
from cachebridge.l2.redis.commands import make_script
from tests.proofs.processes.strikes import StruckError

VARIABLE: Final = "CACHEBRIDGE_PROCESS_TEST_MUTANT"


def _no_flush_on_subscribe() -> None:
    """Go on with the old entries after messages may have been lost."""

    def on_subscribed(self: Coherence) -> None:
        with self.lock:
            self.connected = True
            self.update_gate()

    Coherence.on_subscribed = on_subscribed


def _no_message() -> None:
    """Change L2 and send no message."""
    OutgoingMessages.message_of = lambda *_any: None


def _no_fill_token() -> None:
    """Store what was read whatever happened meanwhile."""
    Coherence.token_holds = lambda *_any: True
    Coherence.fill_token = lambda _rules, activity: activity.generation


def _outage_entries_stay() -> None:
    """Go on with what only this process knows when the server is back."""

    def end(self: OutageEntries) -> None:
        with self._rules.lock:
            self.is_active = False
            self.until = NEVER
            self._rules.update_gate()

    OutageEntries.end = end


def _deletes_not_replayed_first() -> None:
    """Read keys with pending deletes, and leave these to the next heartbeat."""

    async def before(_self: Replay, _keys: object) -> None:
        return None

    assert hasattr(Replay, "before")
    Replay.before = before


def _no_generation_check() -> None:
    """Store what was loaded although the key was written meanwhile."""
    text = load_scripts.STORE_LOADED.text.decode()
    refusal = "  return {0, raw, redis.call('PTTL', KEYS[1])}\n"
    unchecked = text.replace(refusal, "")
    assert unchecked != text
    load_scripts.STORE_LOADED = make_script(unchecked)


def _replica_vouches() -> None:
    """Take a replica for the right server: its refusals are answers like any other."""
    Session._judge = lambda *_any: None
    Session._meets = lambda *_any: True
    assert hasattr(client, "is_wrong_server")
    client.is_wrong_server = lambda _reply: False


def _moves_unnoticed() -> None:
    """Never ask an address again, and take what it leads to for the right server."""
    assert hasattr(RedisServer, "renew_link")
    RedisServer.renew_link = lambda _self: None
    Session._meets = lambda *_any: True


def _stamps_unwatched() -> None:
    """Keep in L1 what hangs on a stamp that was deleted."""
    assert hasattr(Emptying, "on_stamps")
    Coherence.on_stamps = lambda *_any: None


def _invalidations_not_owed() -> None:
    """Forget an invalidation that failed, once it has dropped what L1 holds."""
    fallbacks.ResilientOperations.delete_stamps = fallbacks.with_fallback(
        Operations.delete_stamps, lambda *_any: False, fallbacks.DELETE
    )


def _one_session() -> None:
    """Listen to one master of a cluster, which hears of the others' messages."""
    all_of = RedisCluster.sessions

    def sessions(self: RedisCluster) -> dict[RedisServer, bytes]:
        return {each: tag for each, tag in all_of(self).items() if tag == HOME}

    RedisCluster.sessions = sessions


def _strikes_leave_keys_open() -> None:
    """Take an exception that strikes for one that needs no tidying up."""
    leave = Coherence.leave

    def leave_unless_struck(self: Coherence, keys: Any, member: object) -> None:
        if not isinstance(sys.exception(), StruckError):
            leave(self, keys, member)

    Coherence.leave = leave_unless_struck


def _shared_store_hears_nothing() -> None:
    """Apply messages and own writes to the own L1 alone."""
    Coherence.drop_shared = lambda *_any: None


MUTANTS: Final = {
    "shared-store-hears-nothing": _shared_store_hears_nothing,
    "one-session": _one_session,
    "stamps-unwatched": _stamps_unwatched,
    "invalidations-not-owed": _invalidations_not_owed,
    "strikes-leave-keys-open": _strikes_leave_keys_open,
    "moves-unnoticed": _moves_unnoticed,
    "replica-vouches": _replica_vouches,
    "outage-entries-stay": _outage_entries_stay,
    "deletes-not-replayed-first": _deletes_not_replayed_first,
    "no-generation-check": _no_generation_check,
    "no-flush-on-subscribe": _no_flush_on_subscribe,
    "no-message": _no_message,
    "no-fill-token": _no_fill_token,
}


def apply(name: str) -> None:
    """Switch the named rule off; an empty name changes nothing."""
    if name:
        MUTANTS[name]()
