"""The loads under way, and the tags that their loaders name while they run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from cachebridge.codec.envelope import make_header
from cachebridge.core.dropping.tags import Tagging
from cachebridge.core.keys import MAX_TAGS, names_of, shown_key
from cachebridge.engine.tagging.stamps import INVALID, UNTAGGED, Begun, Stamped
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run
from cachebridge.waiting.signals import current_loop

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextvars import Token

    from cachebridge.engine.tagging.stamps import Stamps
    from cachebridge.waiting.io import IO

TORN: Final = b"torn"
"""In place of a stamp: the tag was invalidated while the loader ran."""
_running: ContextVar[tuple[LoadTags, ...]] = ContextVar(
    "cachebridge_running", default=()
)


class LoadTags(Guard, Begun):
    """The tags of one load: those of its call, and those that its loader names.

    A guard, ``with tags, tags``: inside, the loader's ``tag`` finds it.
    """

    __slots__ = (
        "_asks_l2",
        "_sides",
        "_stamps",
        "_token",
        "failure",
        "io",
        "is_over",
        "seen",
    )

    def __init__(
        self, sides: Mapping[IO, Stamps], io: IO, *, asks_l2: bool = True
    ) -> None:
        """``io`` is how the loader waits.

        Without ``asks_l2`` the value will serve this process alone.
        """
        super().__init__()
        self._sides = sides
        self.io = io
        self._asks_l2 = asks_l2
        self._stamps: dict[str, bytes] = {}
        """By tag; b"" for what has not been read, TORN for two that differ."""
        self._token: Token[tuple[LoadTags, ...]] | None = None
        self.seen = sides[THREADS].engine.rules.tags.changes
        self.failure: L2Error | None = None
        """Why the value must not be stored in L2: a stamp could not be read."""
        self.is_over = False

    def __len__(self) -> int:
        return len(self._stamps)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stamps)

    async def add(self, names: Collection[str], io: IO) -> None:
        """Read the stamps of these tags, now; raises L2Error, and ValueError if many.

        After an L2Error the value has the tags nevertheless.
        """
        # Another task or thread of the loader may be reading some of them now: who has
        # named a tag reads its data when its own call has returned.
        unread = [name for name in names if not self._stamps.get(name)]
        if not unread:
            return
        self._require_room(unread)
        side = self._sides[io]
        if not self._stamps:
            self.seen = side.engine.rules.tags.begin()
        for name in unread:
            self._stamps.setdefault(name, b"")
        if self._asks_l2 and self.failure is None:
            try:
                stamps = await side.make_stamps(unread)
            except L2Error as exc:
                self.failure = exc
                raise
            for name, stamp in stamps.items():
                is_torn = self._stamps[name] not in {b"", stamp}
                self._stamps[name] = TORN if is_torn else stamp

    def _require_room(self, names: Sequence[str]) -> None:
        """Raise ValueError if the value would have too many tags."""
        count = len(self._stamps.keys() | names)
        if count > MAX_TAGS:
            raise ValueError(
                f"a value can have {MAX_TAGS} tags at most: with "
                f"{shown_key(names[-1])} it would have {count}"
            )

    async def begin(self, names: Collection[str], io: IO) -> None:
        """See ``add``; an outage is noted, and raised unless the cache degrades.

        For what runs no ``Load``, before it reads any data.
        """
        try:
            await self.add(names, io)
        except L2Error:
            if not self._sides[THREADS].degrades:
                raise

    async def end(self, io: IO) -> Stamped:
        """Return what the loaded value gets; INVALID if a tag has been invalidated.

        The stamps are compared once more, in L1 mostly: callers that have asked since
        must not get a value from before.
        """
        if not self._stamps:
            return UNTAGGED
        side = self._sides[io]
        failure = self.failure
        if self._asks_l2 and failure is None:
            seen = side.engine.rules.tags.begin()
            try:
                if await side.read_stamps(self._stamps) != self._stamps:
                    return INVALID
            except L2Error as exc:
                failure = exc
            else:
                self.seen = seen
        tagging = Tagging(side.keys_of_tags(self._stamps), self.seen)
        if failure is not None or not self._asks_l2:
            return Stamped(b"", tagging, failure)
        return Stamped(make_header(self._stamps), tagging)

    def _take(self) -> None:
        self._token = _running.set((*_running_here(), self))

    def _give_back(self, _error: BaseException | None) -> None:
        self.is_over = True
        if self._token is not None:
            try:  # noqa: SIM105 faster on the way of each load
                _running.reset(self._token)
            except (ValueError, RuntimeError):
                pass  # closed elsewhere; reset before


def _running_here() -> tuple[LoadTags, ...]:
    """Return the loads that this context is part of, without those that have ended."""
    running = _running.get()
    return tuple([load for load in running if not load.is_over]) if running else ()


def forget_running() -> None:
    """Forget the loads of the context that this one is a copy of."""
    _running.set(())


def tag(*names: str) -> None:
    """Tag what is being loaded, from inside of its loader or view.

    Every load under way in this context gets the tags: also the outer ones, of other
    caches as well.  Call it before the data are read that the tags stand for: their
    stamps are read now, in one round trip for what this process does not know.  Outside
    of a load it does nothing.  A value has at most 32 tags.

    Raises TypeError and ValueError for what is no tag, RuntimeError within a load of a
    task, on its event loop, where ``atag`` is to be awaited, and L2Error if the shared
    store is away and the cache has ``ON_ERROR="raise"``.
    """
    tags = names_of(names)
    loads = _running_here()
    if loads and loads[-1].io is TASKS and current_loop() is not None:
        raise RuntimeError(
            "a task loads this, on an event loop: await cachebridge.atag() instead of "
            "calling cachebridge.tag()"
        )
    for load in loads:
        run(load.begin(tags, THREADS))


async def atag(*names: str) -> None:
    """See ``tag``; for coroutines."""
    tags = names_of(names)
    for load in _running_here():
        await load.begin(tags, TASKS)
