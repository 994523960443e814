"""What a caller gets when L2 does not answer, for both colours.

Every operation is paired with its documented answer (``docs/outages.md``) in
``guarded.py`` and ``aguarded.py``.  With ``ON_ERROR="raise"`` the exception comes out
instead.  No answer waits for anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, KIND, MISSING, Missing
from cachebridge.errors import CounterUnavailableError, L2Error, L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cachebridge.core.entry import Entry
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.debts import Debts
    from cachebridge.engine.sync import Operations

READ: Final = "read"
WRITE: Final = "write"
DELETE: Final = "delete"
COUNT: Final = "count"
DEBT_RETRY_S: Final = 1.0
"""Seconds between two tries to pay a server that refuses to be paid."""


class Answers:
    """The answers of one cache, and the debts that some of them make.  Thread safe."""

    def __init__(self, operations: Operations, *, degrades: bool) -> None:
        self._sync = operations
        self._engine = operations.engine
        self._outage = operations.engine.outage
        self._degrades = degrades
        self._next_payment = 0.0
        self.pattern: KeyPattern | None = None
        """Matches all keys of this cache; None where no pattern can."""

    # -- the answers ---------------------------------------------------------------

    def _past_trust(self, key: str) -> Entry | None:
        return self._engine.entry_past_trust(key)

    def no_get(self, _exc: L2Error, key: str) -> Any | Missing:
        """An entry past its trust, if it may serve."""
        entry = self._past_trust(key)
        if entry is None or entry[KIND] is ABSENT:
            return MISSING
        return self._sync.values.copies.value_of(entry)

    def no_get_many(self, exc: L2Error, keys: Iterable[str]) -> dict[str, Any]:
        """The same for several keys."""
        found = {key: self.no_get(exc, key) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def no_has_key(self, _exc: L2Error, key: str) -> bool:
        """Whether such an entry says so."""
        entry = self._past_trust(key)
        return entry is not None and entry[KIND] is not ABSENT

    def no_set(self, _exc: L2Error, key: str, *_rest: Any) -> bool:
        """False, and the old value is to be deleted."""
        self._owe((key,))
        return False

    def no_set_many(
        self, _exc: L2Error, items: Mapping[str, Any], *_rest: Any
    ) -> list[str]:
        """All keys, and the old values are to be deleted."""
        self._owe(items)
        return list(items)

    def no_change(self, _exc: L2Error, *_args: Any) -> bool:
        """False: nothing was changed."""
        return False

    def no_touch(self, _exc: L2Error, key: str, ttl_ms: int | None) -> bool:
        """False; a TTL that is over is a delete."""
        if ttl_ms == 0:
            self._owe((key,))
        return False

    def no_incr(self, exc: L2Error, key: str, _delta: Any) -> Any:
        """Nothing: a counter cannot be guessed."""
        raise CounterUnavailableError(
            f"{key!r} cannot be counted while the shared store is away: {exc}"
        ) from exc

    def no_delete(self, _exc: L2Error, key: str) -> bool:
        """False, and the delete is owed."""
        self._owe((key,))
        return False

    def no_delete_many(self, _exc: L2Error, keys: Iterable[str]) -> int:
        """0, and the deletes are owed."""
        self._owe(keys)
        return 0

    def no_clear(self, _exc: L2Error, pattern: KeyPattern) -> bool:
        """False, and the clear is owed."""
        self._engine.rules.on_prefix(pattern.prefix)
        self._debts().owe_clear(pattern)
        return False

    def no_flush(self, _exc: L2Error) -> bool:
        """False, and the flush is owed."""
        self._engine.rules.flush("clear")
        self._debts().owe_flush()
        return False

    # -- what is owed ----------------------------------------------------------------

    def _owe(self, keys: Iterable[str]) -> None:
        self._debts().owe(keys, self.pattern)

    def _debts(self) -> Debts:
        debts = self._outage.debts
        debts.payer = self._pay_behind
        return debts

    def _pay_behind(self) -> None:
        with suppress(L2Error):  # then it stays owed
            self.pay_debts()

    def _must_pay(self, args: tuple[Any, ...], kind: str) -> bool | None:
        """Tell whether to pay what is owed now: None, or whether it concerns the keys.

        What is not to be had raises where old values would be read: of the keys that
        are owed.  Whoever writes goes on, and will learn for itself what L2 thinks.
        """
        concerns = kind in (READ, COUNT) and self._outage.debts.concern(_keys_of(args))
        if self._engine.clock() < self._next_payment and not concerns:
            return None
        return concerns

    def _pay(self, concerns: bool) -> None:
        """Pay what is owed before anything else; blocks, which is rare."""
        try:
            self.pay_debts()
        except L2Error:
            self._next_payment = self._engine.clock() + DEBT_RETRY_S
            if concerns:
                raise

    def pay_debts(self) -> None:
        """Carry out all deletes that could not be carried out before."""
        operations, engine = self._sync, self._engine
        if engine.breaker.is_open:
            # A delete that fails would take what was set meanwhile out of L1.
            engine.breaker.admit()
            engine.l2.ping()
        self._outage.debts.pay(
            operations.delete_many, operations.clear, operations.flush_db
        )

    def _refuse(self, kind: str) -> None:
        """Raise for a read that need not be tried, cheaply."""
        if kind is READ and self._degrades and self._engine.breaker.refuses():
            raise L2UnavailableError("not asked, it is away")


def _keys_of(args: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys that an operation's first argument names."""
    if not args:
        return ()
    return (args[0],) if isinstance(args[0], str) else args[0]
