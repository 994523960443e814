"""What the backend does in Django's transactions: ``transaction`` and ``on_commit``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from cachebridge.engine.holding.blocks import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.engine.binding import Binding


class DjangoTransaction:
    """The transaction of one database in this thread: see ``holding.Transaction``."""

    def __init__(self, using: str | None, *, robust: bool) -> None:
        self.database = connections[using or DEFAULT_DB_ALIAS]
        self._robust = robust

    def here(self) -> DjangoTransaction:
        """See ``holding.Transaction``: a decorator is made in another thread."""
        return DjangoTransaction(self.database.alias, robust=self._robust)

    @property
    def is_open(self) -> bool:
        """Whether there is an atomic block, or manual transaction management."""
        database = self.database
        if database.in_atomic_block:
            return True
        return database.connection is not None and not database.autocommit

    def at_commit(self, invalidate: Callable[[], None]) -> None:
        """See ``holding.Transaction``; Django keeps the list, by savepoint.

        Raises TransactionManagementError in manual transaction management.
        """
        self.database.on_commit(invalidate, robust=self._robust)


class TransactionMethods:
    """Base of the backend: its part in the transactions of a database."""

    _binding: Binding

    def transaction(self, using: str | None = None, *, robust: bool = False) -> Block:
        """Return a context in which this cache is changed by the commit alone.

        In it ``set``, ``delete`` and the like of this thread or task change nothing,
        and the keys are deleted after the commit of the database ``using``.  A rollback
        forgets them, as does that of a savepoint.  Until the commit the thread finds
        nothing under these keys.  What it loads in the context is not stored.  Outside
        of a transaction of the database the context has no effect.  With ``robust`` an
        error in deleting is logged, and hooks of Django that come later run.

        Also a decorator.  Raises ConnectionDoesNotExist for an unknown database.
        """
        return Block(self._binding.held, DjangoTransaction(using, robust=robust))

    @property
    def on_commit(self) -> OnCommit:
        """``cache.on_commit.delete(key)``: invalidates after the commit."""
        return OnCommit(self)


class OnCommit:
    """Invalidates after the commit; at once if there is no transaction.

    ``delete`` and ``invalidate_tags`` are those of a ``transaction()`` of their own.
    """

    def __init__(
        self, cache: Any, using: str | None = None, *, robust: bool = False
    ) -> None:
        self._cache = cache
        self._using = using
        self._robust = robust

    def __call__(self, using: str | None = None, *, robust: bool = False) -> OnCommit:
        """Return the same for a database: ``cache.on_commit("other").delete(key)``."""
        return OnCommit(self._cache, using, robust=robust)

    def delete(self, key: Any, version: int | None = None) -> None:
        """Delete the key after the commit."""
        self.delete_many([key], version)

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete all keys after the commit."""
        with self._cache.transaction(self._using, robust=self._robust):
            self._cache.delete_many(keys, version)

    def invalidate_tags(self, *tags: str) -> None:
        """Invalidate the tags after the commit."""
        with self._cache.transaction(self._using, robust=self._robust):
            self._cache.invalidate_tags(*tags)

    def delete_pattern(self, pattern: str, version: int | None = None) -> None:
        """Delete the keys that match after the commit; until then reads find them.

        Raises at once what ``delete_pattern`` raises for its arguments.
        """
        self._cache._key_set(version).own(pattern)  # noqa: SLF001 of its class
        self._later(partial(self._cache.delete_pattern, pattern, version))

    def clear(self, prefix: str | None = None, version: int | None = None) -> None:
        """Clear the cache after the commit; until then reads find its keys.

        Raises at once what ``clear`` raises for its arguments.
        """
        if prefix is not None:
            self._cache._key_set(version).beginning(prefix)  # noqa: SLF001 the same
        self._later(partial(self._cache.clear, prefix, version))

    def _later(self, invalidate: Callable[[], object]) -> None:
        transaction.on_commit(invalidate, using=self._using, robust=self._robust)
