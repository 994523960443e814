"""Loaders in the background: in the app of whoever asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app, has_app_context

if TYPE_CHECKING:
    from collections.abc import Callable


def in_app(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Let a loader run in the background as in the app of the moment."""
    if not has_app_context():
        return loader
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001

    def load() -> Any:
        with app.app_context():
            return loader()

    return load
