"""The panel: its title, its table, and when it records."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Any

from debug_toolbar.panels import Panel
from django.core.cache import CacheHandler

from cachebridge.contrib.django.toolbar import recording

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class CacheBridgePanel(Panel):
    """Lists each call of a cache of cachebridge, and which level has answered."""

    title = "cachebridge"
    template = "cachebridge/toolbar_panel.html"
    is_async = True

    _recording: recording.Recording | None = None

    @property
    def nav_subtitle(self) -> str:
        """Return the sums, as the side bar has room for."""
        known = self.get_stats()  # type: ignore[no-untyped-call] # theirs
        if not known:
            return ""
        levels = ", ".join(f"{n} {name}" for name, n in known["levels"].items())
        return f"{known['count']} calls{': ' * bool(levels)}{levels}"

    @classmethod
    def ready(cls) -> None:
        """Let cache objects that are made during a recorded request be recorded."""
        make = CacheHandler.create_connection
        if getattr(make, "is_cachebridge", False):
            return

        @wraps(make)
        def create_connection(handler: CacheHandler, alias: str) -> Any:
            cache = make(handler, alias)
            if (found := recording.current()) is not None:
                recording.patch(cache, found)
            return cache

        create_connection.is_cachebridge = True  # type: ignore[attr-defined] # a mark
        CacheHandler.create_connection = create_connection  # type: ignore[assignment,method-assign] # once

    def enable_instrumentation(self) -> None:
        """Record what this request does."""
        if self._recording is None:
            self._recording = recording.begin()

    def disable_instrumentation(self) -> None:
        """Record nothing further."""
        if self._recording is not None:
            recording.end(self._recording)

    def generate_stats(self, _request: HttpRequest, _response: HttpResponse) -> None:
        """Hand over what was recorded, without values."""
        found = self._recording or recording.Recording()
        levels: Counter[str] = Counter()
        for call in found.calls:
            levels.update(call.levels)
        calls = found.calls
        self.record_stats(  # type: ignore[no-untyped-call] # theirs
            {
                "count": len(calls) + found.left_out,
                "left_out": found.left_out,
                "levels": {each: levels[each] for each in sorted(levels)},
                "exchanges": sum(each.exchanges for each in calls),
                "lasted_ms": _ms(sum(each.lasted_s for each in calls)),
                "calls": [_shown(each) for each in calls],
            }
        )


def _shown(call: recording.Call) -> dict[str, Any]:
    """Return a row of the table: texts and numbers."""
    few = call.keys[:5]
    more = len(call.keys) - len(few)
    answered = [n if c == 1 else f"{c} {n}" for n, c in call.levels.items()]
    return {
        **asdict(call),
        "keys": ", ".join([*few, *([f"and {more} more"] if more else [])]),
        "level": ", ".join(answered),
        "left_s": None if call.left_s is None else round(call.left_s, 1),
        "waited_ms": _ms(call.waited_s),
        "loaded_ms": _ms(call.loaded_s),
        "lasted_ms": _ms(call.lasted_s),
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
