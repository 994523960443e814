"""How many calls to shared stores a block makes."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import pytest

from cachebridge.engine import registry
from cachebridge.l2.store import L2Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_COUNTED: Final = frozenset({"ping", "publish", "switch", "keep_list", "kept_list"})
"""What the background does, and callers do not."""
NAMES: Final = [
    name
    for name, method in vars(L2Store).items()
    if iscoroutinefunction(method) and name not in NOT_COUNTED
]
_within: ContextVar[bool] = ContextVar("cachebridge_call", default=False)


class Calls(list[str]):
    """The names of the calls so far, as ``["get", "store"]``."""


def _counted(method: Callable[..., Any], name: str, calls: Calls) -> Any:
    @wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if _within.get():  # a store that asks another one
            return await method(*args, **kwargs)
        calls.append(name)
        token = _within.set(True)
        try:
            return await method(*args, **kwargs)
        finally:
            _within.reset(token)

    return call


def _classes() -> set[type]:
    """Return the classes of the stores that engines use."""
    found = set()
    for engine in registry.engines():
        for store in (engine.stores.threads, engine.stores.tasks):
            found |= {type(store), type(engine.stores.past_replicas(store))}
    return found


@contextmanager
def assert_l2_calls(
    max: int | None = None,  # noqa: A002 it reads well
    *,
    exactly: int | None = None,
) -> Iterator[Calls]:
    """Fail if the block makes more calls to shared stores than ``max``.

    ``exactly`` is the number itself.  A call is what the library asks of a store at
    once: a ``get_many`` is one.  All caches of the process that were made before the
    block count, background refreshes as well.  Yields the names of the calls.
    """
    if (max is None) == (exactly is None):
        raise TypeError("assert_l2_calls needs one of max and exactly")
    calls = Calls()
    with ExitStack() as patched:
        for each in _classes():
            for name in NAMES:
                if callable(method := getattr(each, name, None)):
                    new = _counted(method, name, calls)
                    patched.enter_context(patch.object(each, name, new))
        yield calls
    made = len(calls)
    is_right = made == exactly if exactly is not None else made <= (max or 0)
    if not is_right:
        wanted = f"{exactly}" if exactly is not None else f"at most {max}"
        pytest.fail(f"{made} calls to shared stores, expected {wanted}: {calls}")
