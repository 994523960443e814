"""The blocks in which a thread or task changes nothing before a commit."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from cachebridge.engine.holding.held import Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.holding.held import Held


class Transaction(Protocol):
    """A connection of the application to a database, in one thread."""

    @property
    def database(self) -> object:
        """The connection, the same object for every block on it."""

    @property
    def is_open(self) -> bool:
        """Whether changes wait for a commit now."""

    def here(self) -> Transaction:
        """Return that of the same database in the thread that asks."""

    def at_commit(self, invalidate: Callable[[], None]) -> None:
        """Have it called after the commit.

        At a rollback, also of a savepoint that is open now, every reference to it has
        to be dropped.
        """


class Block(ContextDecorator):
    """``with cache.transaction():`` as the engine knows it.

    One ``with`` at a time enters it: RuntimeError for a second one.
    """

    def __init__(self, held: Held, transaction: Transaction) -> None:
        self.transaction = transaction
        """Of the thread that has made the block, then of the one that enters it."""
        self.views: dict[Any, Any] = {}
        """What ``KeyOperations.seen_by`` has made for it."""
        self.is_entered = False
        """False again for a task that was started inside and outlives it."""
        self._held = held

    def _recreate_cm(self) -> Block:
        return Block(self._held, self.transaction)

    def __enter__(self) -> Self:
        if self.is_entered:
            raise RuntimeError(
                "this block is entered already: call transaction() for each with"
            )
        self.transaction = self.transaction.here()
        self.views = {}
        blocks, owner = _scope() or Scope((), Owner())
        self._held.count_blocks(+1)
        self.is_entered = True
        _here.set(Scope((*blocks, self), owner))
        return self

    def __exit__(self, *_exc: object) -> None:
        self.is_entered = False
        self._held.count_blocks(-1)
        _scope()

    def is_of(self, held: Held) -> bool:
        """Return whether the calls of this cache belong to it now."""
        return self._held is held and self.transaction.is_open


class Scope(NamedTuple):
    """Where a thread or task is."""

    blocks: tuple[Block, ...]
    """The innermost last."""
    owner: Owner


class View(NamedTuple):
    """How a thread or task sees a cache while it waits for a commit."""

    held: Held
    owner: Owner
    block: Block | None
    """The block that it is in; None if it has left it and still holds something."""

    def hides(self, full_key: str) -> bool:
        """Return whether the key does not exist for it."""
        return self.held.is_held(self.owner, full_key)

    def hides_tags(self) -> bool:
        """Return whether there are tags whose values do not exist for it."""
        return bool(self.owner.of_tags.get(self.held))


_here: ContextVar[Scope | None] = ContextVar("cachebridge_holding", default=None)


def _scope() -> Scope | None:
    """Return where this caller is; None if it is in no block and holds nothing.

    Forgets the blocks that were left.
    """
    here = _here.get()
    if here is None:
        return None
    blocks = tuple(block for block in here.blocks if block.is_entered)
    if not blocks and not here.owner.marks:
        _here.set(None)
        return None
    if len(blocks) != len(here.blocks):
        here = Scope(blocks, here.owner)
        _here.set(here)
    return here


def view_of(held: Held, full_key: str) -> View | None:
    """Return how this caller sees the key; None if it does as all others."""
    held.settle()
    here = _scope()
    if here is None:
        return None
    for block in reversed(here.blocks):
        if block.is_of(held):
            return View(held, here.owner, block)
    view = View(held, here.owner, None)
    return view if view.hides(full_key) or view.hides_tags() else None
