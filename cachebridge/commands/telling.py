"""How what a fleet has answered becomes a report, and numbers become texts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from cachebridge.commands.report import DONE, FINDING, NOT_DONE, Report, Table

if TYPE_CHECKING:
    from cachebridge.engine.fleet.asking import Answers

Answer = dict[str, Any]

MANY: Final = 3
"""So many names have no room in a line."""
SILENT: Final = (
    "no process answers: none has read yet, all have FLEET_ASK off, or an old release"
)


def report_on(asked: Answers, tables: list[Table], *, finding: str = "") -> Report:
    """Make the report of what a fleet has answered; silence is a finding."""
    told = [finding] if finding else []
    if asked.missing:
        told.append(f"{asked.missing} of {asked.reached} processes did not answer")
    failed = [each for each in asked.answers if "error" in each]
    if failed:
        told.append(f"{len(failed)} could not answer: {failed[0]['error']}")
    if not asked.answers:
        nothing: Answer = {"answers": [], "reached": asked.reached}
        status = FINDING if asked.reached else NOT_DONE
        return Report(status, nothing, (), "; ".join([SILENT, *told]))
    data = {"answers": asked.answers, "reached": asked.reached}
    status = FINDING if told else DONE
    return Report(status, data, tables, "; ".join(told))


def name_of(answer: Answer) -> str:
    """Return the host and pid of who has answered."""
    return f"{answer['who'].get('host')}/{answer['who'].get('pid')}"


def part_of(answer: Answer, verb: str) -> Answer:
    """Return what a process has answered to a verb; empty if it could not."""
    found = answer.get(verb)
    return found if isinstance(found, dict) else {}


def text_of(known: Answer, name: str) -> str:
    """Return a field as text, empty if it is not there."""
    value = known.get(name)
    return "" if value is None else str(value)


def yes_no(value: object) -> str:
    """Return yes or NO, empty for None."""
    return "" if value is None else "yes" if value is True else "NO"


def percent(value: object) -> str:
    """Return a share of 0.0 to 1.0 in percent, empty for what is no number."""
    return f"{value:.1%}" if isinstance(value, (int, float)) else ""


def milliseconds(value: object) -> str:
    """Return seconds as milliseconds, empty for what is no number."""
    return f"{1000 * value:g} ms" if isinstance(value, (int, float)) else ""


def age(since: object) -> str:
    """Return the hours and minutes since a Unix time, empty for what is none."""
    if not isinstance(since, (int, float)):
        return ""
    minutes = max(0, int(time.time() - since)) // 60
    return f"{minutes // 60}:{minutes % 60:02} h"


def number_of(value: Any) -> float:
    """Return a number that another process has sent, 0.0 for what is none."""
    return value if isinstance(value, (int, float)) else 0.0


def few(names: list[str]) -> str:
    """Return one or two names, and of more their number."""
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) < MANY else f"{len(known)} processes"
