"""The tables of ``docs/outages.md``, made of what was observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.proofs.outages.adapters import ADAPTERS, ALONE, REDIS, WITH_BUS
from tests.proofs.outages.memcached_site import BUS
from tests.proofs.outages.site import AWAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proofs.outages.adapters import Adapter, Place
    from tests.proofs.outages.observe import Answers

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "outages.md"
BEGIN: Final = "<!-- observed: begin; python -m tests.proofs.outages --write -->"
END: Final = "<!-- observed: end -->"
COMMAND: Final = "python -m tests.proofs.outages --write"

Observe = "Callable[[str, str], Observation]"


@dataclass(slots=True)
class Column:
    """What was answered, alike, in some situations."""

    by_adapter: dict[str, Answers]
    situations: list[str] = field(default_factory=list)
    is_away: bool = False
    works: bool = False
    is_open: bool = False

    @property
    def heading(self) -> str:
        """Name the column."""
        if self.works:
            return "works"
        if self.is_away and len(self.situations) > 1:
            return "away, breaker open" if self.is_open else "away"
        if self.situations[0].startswith(BUS) and len(self.situations) > 1:
            return "bus away"
        return ", ".join(self.situations)


def columns_of(observe: Observe, place: Place) -> list[Column]:
    """Put what was answered alike into one column; that of a server at work first."""
    adapters = _adapters_over(place)
    columns: list[Column] = []

    def put(situation: str, answers: dict[str, Answers], *, is_open: bool) -> Column:
        for column in columns:
            if column.by_adapter == answers and column.is_open == is_open:
                break
        else:
            column = Column(answers, is_open=is_open)
            columns.append(column)
        column.situations.append(situation)
        return column

    first = next(iter(place.faults))
    healthy = {name: observe(first, name).healthy for name in adapters}
    columns.append(Column(healthy, works=True))
    for is_open in (False, True):
        for fault in place.faults.values():
            seen = {name: observe(fault.name, name) for name in adapters}
            answers = {
                name: each.opened if is_open else each.failing
                for name, each in seen.items()
            }
            if any(answers.values()):
                column = put(fault.name, answers, is_open=is_open)
                column.is_away = fault.kind == AWAY
    closed = [each for each in columns if not each.is_open]
    opened = [each for each in columns if each.is_open]
    at = sum(each.works or each.is_away for each in closed)
    return [*closed[:at], *opened, *closed[at:]]


def _adapters_over(place: Place) -> dict[str, Adapter]:
    return {name: each for name, each in ADAPTERS.items() if each.place is place}


def lines_of(observe: Observe) -> Iterator[str]:
    """Write the generated part."""
    yield from _tables_of(observe, REDIS)
    for place in (WITH_BUS, ALONE):
        yield ""
        yield from _tables_of(observe, place)
    yield ""
    yield "Every call had its answer within `SOCKET_CONNECT_TIMEOUT + SOCKET_TIMEOUT`"
    yield "for each of its round trips: one, and one more if deletes were owed;"
    several = {
        case.row.partition(",")[0]: case.trips
        for adapter in ADAPTERS.values()
        for case in adapter.cases
        if case.trips > 1
    }
    yield ", ".join(f"{row} makes {trips}" for row, trips in several.items()) + "."
    yield "While the breaker is open no call waits for the server at all."


def _tables_of(observe: Observe, place: Place) -> Iterator[str]:
    columns = columns_of(observe, place)
    over = "" if place is REDIS else f" ({next(iter(_adapters_over(place)))})"
    for column in columns:
        also = "also with " if column.works else ""
        if column.heading not in column.situations:
            situations = ", ".join(column.situations)
            yield f"- **{column.heading}**{over}: {also}{situations}"
    for name, adapter in _adapters_over(place).items():
        yield ""
        yield f"### {name}"
        yield ""
        yield _row(["", *(column.heading for column in columns)])
        yield _row(["---"] * (len(columns) + 1))
        for case in adapter.cases:
            healthy = columns[0].by_adapter[name][case.row]
            cells = [_cell(column, name, case.row, healthy) for column in columns]
            yield _row([case.row, *cells])


def _cell(column: Column, adapter: str, row: str, healthy: str) -> str:
    answer = column.by_adapter[adapter][row]
    if answer == healthy and not (column.works or column.is_away):
        return "works"
    return answer


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def render(text: str, observe: Observe) -> str:
    """Replace the generated part of the document's text."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{DOCUMENT.name} has no mark {BEGIN}"
    assert end, f"{DOCUMENT.name} has no mark {END}"
    generated = "\n".join(lines_of(observe))
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"
