"""What a caller gets when L2 does not answer, for both colours.

Every operation is paired with its documented answer (``docs/outages.md``) in
``guarded.py`` and ``aguarded.py``.  With ``ON_ERROR="raise"`` the exception comes out
instead.  No answer waits for anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.core.entry import ABSENT, KIND, MISSING, Missing
from cachebridge.core.keys import KeyPattern, fits_message
from cachebridge.errors import CounterUnavailableError, L2Error, L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cachebridge.core.entry import Entry
    from cachebridge.engine.debts import Debts
    from cachebridge.engine.sync import Operations

READ: Final = "read"
WRITE: Final = "write"
DELETE: Final = "delete"
COUNT: Final = "count"
DEBT_RETRY_S: Final = 1.0
"""Seconds between two tries to pay a server that refuses to be paid."""
PAYMENT: Final = "\0payment"
"""The name under which owed deletes are carried out in the background."""


class Payers(NamedTuple):
    """What carries out the owed deletes of a cache."""

    coherent: Operations
    direct: Operations


class Answers:
    """The answers of one cache, and the debts that some of them make.  Thread safe."""

    def __init__(
        self, operations: Operations, *, degrades: bool, payers: Payers
    ) -> None:
        self._sync = operations
        self._engine = operations.engine
        self._outage = operations.engine.outage
        self._degrades = degrades
        self._payers = payers
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

    def no_set(self, exc: L2Error, key: str, *_rest: Any) -> bool:
        """False, and the old value is to be deleted."""
        self._owe(exc, (key,))
        return False

    def no_set_many(
        self, exc: L2Error, items: Mapping[str, Any], *_rest: Any
    ) -> list[str]:
        """All keys, and the old values are to be deleted."""
        self._owe(exc, items)
        return list(items)

    def no_change(self, _exc: L2Error, *_args: Any) -> bool:
        """False: nothing was changed."""
        return False

    def no_touch(self, exc: L2Error, key: str, ttl_ms: int | None) -> bool:
        """False; a TTL that is over is a delete."""
        if ttl_ms == 0:
            self._owe(exc, (key,))
        return False

    def no_incr(self, exc: L2Error, key: str, _delta: Any) -> Any:
        """Nothing: a counter cannot be guessed."""
        raise CounterUnavailableError(
            f"{key!r} cannot be counted while the shared store is away: {exc}"
        ) from exc

    def no_delete(self, exc: L2Error, key: str) -> bool:
        """False, and the delete is owed."""
        self._owe(exc, (key,))
        return False

    def no_delete_many(self, exc: L2Error, keys: Collection[str]) -> int:
        """0, and the deletes are owed."""
        self._owe(exc, keys)
        return 0

    def no_clear(self, exc: L2Error, pattern: KeyPattern) -> bool:
        """False, and the clear is owed."""
        if not exc.is_permanent:
            self._debts().owe_clear(pattern)
        self._engine.rules.on_prefix(pattern.prefix)
        return False

    def no_flush(self, exc: L2Error) -> bool:
        """False, and the flush is owed."""
        if not exc.is_permanent:
            self._debts().owe_flush()
        self._engine.rules.flush("clear")
        return False

    # -- what is owed ----------------------------------------------------------------

    def _owe(self, exc: L2Error, keys: Iterable[str]) -> None:
        """Delete the keys when L2 is back; nothing, if it will never let us."""
        if not exc.is_permanent:
            self._debts().owe(keys, self.pattern)
            self._engine.rules.distrust(keys)

    def _debts(self) -> Debts:
        debts = self._outage.debts
        debts.payer = self._pay_behind
        return debts

    def _pay_behind(self) -> None:
        with suppress(L2Error):  # then it stays owed
            self.pay_debts()

    def _is_owed(self, args: tuple[Any, ...]) -> bool:
        """Tell whether what is owed concerns these keys: then it has to be paid first.

        Otherwise it is paid behind the caller, who has nothing to do with it.
        """
        debts = self._outage.debts
        if debts.concern(_keys_of(args)):
            return True
        now = self._engine.clock()
        if now >= debts.next_try and not self._engine.breaker.is_open:
            debts.next_try = now + DEBT_RETRY_S
            self._engine.refresher.submit(PAYMENT, self._pay_behind)
        return False

    def _pay(self) -> L2Error | None:
        """Pay what is owed, or return why it cannot be; blocks, which is rare.

        A server that refuses to be paid is not asked again for a while.
        """
        debts = self._outage.debts
        now = self._engine.clock()
        if debts.refusal is not None and now < debts.next_try:
            return debts.refusal
        try:
            self.pay_debts()
        except L2Error as exc:
            if not isinstance(exc, L2UnavailableError):
                debts.refusal, debts.next_try = exc, now + DEBT_RETRY_S
            return exc
        debts.refusal = None
        return None

    def pay_debts(self) -> None:
        """Carry out all deletes that could not be carried out before."""
        engine = self._engine
        if engine.breaker.is_open:
            # A delete that fails would take what was set meanwhile out of L1.
            engine.breaker.admit()
            engine.l2.ping()
        payer = self._payers.coherent
        self._outage.debts.pay(self._delete_owed, payer.clear, payer.flush_db)

    def _delete_owed(self, keys: Sequence[str]) -> None:
        """Delete with a message, whichever cache owes it: a peer may have a copy."""
        named = [key for key in keys if fits_message(key)]
        self._payers.coherent.delete_many(named)
        if len(named) < len(keys):
            self._payers.direct.delete_many(set(keys).difference(named))

    def _refuse(self, kind: str) -> None:
        """Raise for a read that need not be tried, cheaply."""
        self._engine.rules.prolong_outage()
        if kind is READ and self._degrades and self._engine.breaker.refuses():
            raise L2UnavailableError("not asked, it is away")


def _keys_of(args: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys that an operation's first argument names."""
    if not args:
        return ()
    named = args[0]
    if isinstance(named, KeyPattern):
        return (named.prefix,)
    return (named,) if isinstance(named, str) else named
