"""Operations for which L2 is away, whether or not it is: a replay has failed."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.engine.operations import Operations
    from cachebridge.errors import L2Error


class UnavailableStore:
    """Refuses everything, with the error of a replay: L2 must not be asked then.

    The rules see a failure like any other, and nothing reaches the server.
    """

    def __init__(self, failure: L2Error) -> None:
        self._failure = failure

    def __getattr__(self, _name: str) -> Callable[..., Coroutine[None, None, NoReturn]]:
        return self._refuse

    async def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise self._failure.again()


def without_l2(operations: Operations, failure: L2Error) -> Operations:
    """Return the same operations, for which every call of L2 raises ``failure``."""
    refused = copy(operations)
    refused.l2 = UnavailableStore(failure)  # type: ignore[assignment] # any method
    return refused
