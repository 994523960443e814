"""What a verb has found: a status, data for programs, and tables for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DONE, FINDING, NOT_DONE = 0, 1, 2
"""Exit status: all is well; there is a finding, or it was done in part; it could not be
asked, or not be done."""

MOST_WIDTH: Final = 500


class Table(NamedTuple):
    """Rows under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Report(NamedTuple):
    """What a verb has found."""

    status: int
    data: Any
    """Plain JSON values."""
    tables: Sequence[Table] = ()
    text: str = ""
    """Stands under the tables."""


def show(report: Report, out: Any, *, as_json: bool, tells_all: bool = False) -> None:
    """Write to a text file: tables of rich where it is installed and a person looks.

    The text of a report that is not done, or is a finding, is for standard error: it is
    left out, unless ``tells_all``.
    """
    text = report.text if report.status == DONE or tells_all else ""
    shown_report = report._replace(text=text)
    if as_json:
        out.write(json.dumps({"status": report.status, **report.data}, indent=2) + "\n")
    elif not out.isatty() or not _show_rich(shown_report, out):
        for part in _parts(shown_report):
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
        from rich.table import Table as RichTable  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return False
    console = Console(file=out)
    for table in report.tables:
        drawn = RichTable(*table.header)
        for row in _clean(table):
            drawn.add_row(*map(Text, row))  # as text: what was sent is no markup
        console.print(drawn)
    if report.text:
        console.print(Text(report.text))
    return True
