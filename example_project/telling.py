"""How the demo tells what it sees: two lines for each scene, all figures in a file.

A scene prints its figures as if it ran alone, and sums them up.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Telling", "sum_up"]

_summary: list[str] = []


def sum_up(words: str) -> None:
    """Say of the scene under way what one should know who reads nothing else."""
    _summary.append(words)


class Telling:
    """Plays scenes, and tells of each.  With ``in_full`` it shows all they print."""

    def __init__(self, path: Path, *, of: int, in_full: bool) -> None:
        self._path = path
        self._of = of
        self._in_full = in_full
        path.parent.mkdir(exist_ok=True)
        path.write_text("")

    def scene(
        self, number: int, title: str, play: Callable[[], list[str]]
    ) -> list[str]:
        """Play it; return the promises that did not hold."""
        _summary.clear()
        began, printed = time.monotonic(), io.StringIO()
        head = f"{number:>2}/{self._of}  {title}"
        is_watched = sys.stdout.isatty() and not self._in_full
        if is_watched:
            print(f"{head} ...", end="", flush=True)
        try:
            if self._in_full:
                broken = play()
            else:
                with redirect_stdout(printed):
                    broken = play()
        finally:
            with self._path.open("a") as file:
                file.write(printed.getvalue())
        if not self._in_full:
            outcome = "BROKEN" if broken else "ok"
            took = f"{outcome}, {time.monotonic() - began:.0f} s"
            start = "\r" if is_watched else ""
            print(f"{start}{head:<60}{took:>15}", flush=True)
            for words in _summary:
                print(f"       {words}", flush=True)
        return broken
