"""A store that refuses everything: what an operation meets when L2 must not be asked.

So the rules see a failure like any other, and nothing reaches the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.errors import L2Error


class Refusing:
    """Raises what the payment of the owed deletes has failed with."""

    def __init__(self, failure: L2Error) -> None:
        self._failure = failure

    def __getattr__(self, _name: str) -> Callable[..., NoReturn]:
        return self._refuse

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise self._failure.again()


class AsyncRefusing(Refusing):
    """The same for tasks."""

    def __getattr__(self, _name: str) -> Callable[..., Coroutine[None, None, NoReturn]]:  # type: ignore[override]
        return self._refuse_soon

    async def _refuse_soon(self, *args: object, **kwargs: object) -> NoReturn:
        self._refuse(*args, **kwargs)
