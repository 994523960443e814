"""What a verb has found: a status, data for programs, and tables for people."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

DONE, FINDING, NOT_DONE = 0, 1, 2
"""Exit status: all is well; there is a finding, or it was done in part; it could not be
asked, or not be done."""

MOST_WIDTH: Final = 500
MARGIN: Final = 6
"""Lines of a terminal that a table's frame and a text below it take."""


class Table(NamedTuple):
    """Rows under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    newest_last: bool = False
    """Whether the last rows matter most, where there is no room for all."""


class Report(NamedTuple):
    """What a verb has found."""

    status: int
    data: Any
    """Plain JSON values."""
    tables: Sequence[Table] = ()
    text: str = ""
    """Stands under the tables."""
    is_plain: bool = False
    """Whether it is for copying: no frames, on a terminal neither."""


def show(report: Report, out: Any, *, as_json: bool) -> None:
    """Write to a text file: tables of rich where it is installed and a person looks.

    The text of a report that is not done, or is a finding, is for standard error, and
    left out.
    """
    if report.status != DONE:
        report = report._replace(text="")
    if as_json:
        _write_json(report, out)
    elif report.is_plain or not out.isatty() or not _show_rich(report, out):
        _write_parts(report, out)


@contextmanager
def watched(out: Any, *, as_json: bool) -> Iterator[Callable[[Report], object]]:
    """Return what shows one report after the other, findings included.

    With rich, on a terminal, each takes the place of the last one.
    """
    live = None if as_json or not out.isatty() else _live(out)
    if live is None:

        def show_next(report: Report) -> None:
            (_write_json if as_json else _write_parts)(report, out)
            out.flush()

        yield show_next
        return
    with live:
        room = max(1, live.console.height - MARGIN)
        yield lambda report: live.update(_drawn(report, room), refresh=True)


def _write_json(report: Report, out: Any) -> None:
    out.write(json.dumps({"status": report.status, **report.data}, indent=2) + "\n")


def _write_parts(report: Report, out: Any) -> None:
    for part in _parts(report):
        out.write(f"{part}\n")


def _parts(report: Report) -> Iterable[str]:
    for table in report.tables:
        rows = [list(table.header), *_clean(table)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        yield "\n".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        )
    if report.text:
        yield report.text


def _clean(table: Table) -> list[list[str]]:
    """Escape what other processes have sent: a terminal obeys control characters."""
    return [[shown(cell, MOST_WIDTH) for cell in row] for row in table.rows]


def _show_rich(report: Report, out: Any) -> bool:
    try:
        from rich.console import Console  # noqa: PLC0415 not needed
    except ImportError:
        return False
    Console(file=out).print(_drawn(report))
    return True


def _live(out: Any) -> Any:
    """Return rich's display on a terminal; None where it is not installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 not needed
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        return None
    return Live(console=Console(file=out), auto_refresh=False)


def _drawn(report: Report, room: int | None = None) -> Any:
    """Draw with rich; in so many lines, if they are few."""
    from rich.console import Group  # noqa: PLC0415 not needed
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    parts: list[Any] = []
    for table in report.tables:
        drawn = RichTable(*table.header)
        rows = _clean(table)
        if room is not None and table.newest_last:
            rows = rows[-room:]
        for row in rows:
            drawn.add_row(*map(Text, row))  # as text: what was sent is no markup
        parts.append(drawn)
    if report.text:
        parts.append(Text(report.text))
    return Group(*parts)
