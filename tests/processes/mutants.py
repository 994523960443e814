"""Rules that can be switched off in a worker, to see that the process test notices.

Only the workers of this test know them: each replaces one method of the library.
"""

from __future__ import annotations

from typing import Final

from cachebridge.core.coherence import Coherence
from cachebridge.engine.engine import Engine

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


MUTANTS: Final = {
    "no-flush-on-subscribe": _no_flush_on_subscribe,
    "no-message": _no_message,
    "no-fill-token": _no_fill_token,
}


def apply(name: str) -> None:
    """Switch the named rule off; an empty name changes nothing."""
    if name:
        MUTANTS[name]()
