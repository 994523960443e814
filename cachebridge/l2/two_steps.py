"""A change and its message as two steps, to two servers: the message follows.

The outbox keeps what it cannot publish at once.  If the outcome of a change is unknown,
its message is published when the server has answered again for a while, since the
change may be carried out until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cachebridge.core.lease import LoadReply
from cachebridge.errors import L2Error
from cachebridge.l2.store import TAGGED, Counted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeAlias

    Answer: TypeAlias = Coroutine[Any, Any, "T"]

T = TypeVar("T")


class Outbox(Protocol):
    """Publishes messages, or keeps them until it can.  Thread safe; raises no L2Error.

    ``send`` waits as the store's own methods do, for threads or for tasks.
    """

    async def send(self, message: bytes) -> None:
        """Publish now, or later if that fails."""

    def doubt(self, message: bytes) -> None:
        """Publish in the background: the change may be carried out, also later."""


class Silence:
    """Publishes nothing: without a bus no peer listens."""

    async def send(self, message: bytes) -> None:
        """Do nothing."""

    def doubt(self, message: bytes) -> None:
        """Do nothing."""


def _as_it_is(failure: BaseException) -> BaseException:
    return failure


async def announced(
    change: Answer[T],
    message: bytes | None,
    outbox: Outbox,
    *,
    always: bool = False,
    judge: Callable[[BaseException], BaseException] = _as_it_is,
) -> T:
    """Carry a change out, and publish its message if it has changed anything.

    After a failure it may be carried out all the same, unless no request has reached a
    server.  ``judge`` returns the exception to raise for a failure.
    """
    try:
        result = await change
        is_due = always or _has_changed(result)
    except BaseException as exc:
        error = judge(exc)
        if message is not None and not (isinstance(error, L2Error) and error.is_unsent):
            outbox.doubt(message)
        if error is exc:
            raise
        raise error from exc
    if message is not None and is_due:
        await outbox.send(message)
    return result


def _has_changed(result: object) -> bool:
    """Return whether peers have to be told of a result.

    A count of deleted keys is told even if it is 0: a peer may hold what L2 has lost.
    So is TAGGED, which a ``touch`` answers.
    """
    if isinstance(result, LoadReply):
        return result.stored
    if isinstance(result, Counted):
        return result.changed
    is_told = result is True or result == TAGGED
    return is_told or type(result) in {int, list, tuple}
