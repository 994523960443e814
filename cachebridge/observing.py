"""The hook for who looks on at exchanges with L2, loads and waits; never at hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Observer(Protocol):
    """Enters a context for each; must not raise, and is called by any thread."""

    def exchange(self, label: str, request: Any) -> AbstractContextManager[object]:
        """Around one request to the server of this label, and its replies."""

    def load(self, key: str) -> AbstractContextManager[object]:
        """Around one run of a loader, for a full key."""

    def lease_wait(self, key: str) -> AbstractContextManager[object]:
        """Around a wait for the load of another process."""


class Hook:
    """Holds the observer of this process."""

    __slots__ = ("observer",)

    def __init__(self) -> None:
        self.observer: Observer | None = None
        """None, and nothing is observed."""


HOOK: Final = Hook()
