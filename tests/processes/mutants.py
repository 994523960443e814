"""Rules that can be switched off in a worker, to see that the process test notices.

Only the workers of this test know them: each replaces one method of the library.
"""

from __future__ import annotations

from typing import Final

from cachebridge.core.coherence import NEVER, Coherence
from cachebridge.engine.engine import Engine
from cachebridge.engine.guarded import Guarded
from cachebridge.l2 import load_scripts
from cachebridge.l2.commands import make_script

VARIABLE: Final = "CACHEBRIDGE_PROCESS_TEST_MUTANT"


def _no_flush_on_subscribe() -> None:
    """Go on with the old entries after messages may have been lost."""

    def on_subscribed(self: Coherence) -> None:
        with self.lock:
            self.connected = True
            self._update_gate()

    Coherence.on_subscribed = on_subscribed


def _no_message() -> None:
    """Change L2 and tell nobody."""
    Engine.message_of = lambda *_any: None


def _no_fill_token() -> None:
    """Store what was read whatever happened meanwhile."""
    Coherence.token_holds = lambda *_any: True
    Coherence.fill_token = lambda _rules, flight: flight.generation


def _outage_entries_stay() -> None:
    """Go on with what only this process knows when the server is back."""

    def end_outage(self: Coherence) -> None:
        with self.lock:
            self.in_outage = False
            self._outage_until = NEVER
            self._update_gate()

    Coherence.end_outage = end_outage


def _debts_not_paid_first() -> None:
    """Read what is owed a delete, and leave the delete to the next heartbeat."""
    assert hasattr(Guarded, "_is_owed")
    Guarded._is_owed = lambda *_any: False


def _no_generation_check() -> None:
    """Store what was loaded although the key was written meanwhile."""
    text = load_scripts.STORE_LOADED.text.decode()
    unchecked = text.replace("local no = refused(ARGV[8])", "local no = nil")
    assert unchecked != text
    load_scripts.STORE_LOADED = make_script(unchecked)


MUTANTS: Final = {
    "outage-entries-stay": _outage_entries_stay,
    "debts-not-paid-first": _debts_not_paid_first,
    "no-generation-check": _no_generation_check,
    "no-flush-on-subscribe": _no_flush_on_subscribe,
    "no-message": _no_message,
    "no-fill-token": _no_fill_token,
}


def apply(name: str) -> None:
    """Switch the named rule off; an empty name changes nothing."""
    if name:
        MUTANTS[name]()
