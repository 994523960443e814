"""``tail``: what has happened in the last seconds in all processes, in one list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.commands.asking import engine_of, shown_for
from cachebridge.commands.report import Report, Table
from cachebridge.commands.telling import few, name_of, number_of, part_of, report_on
from cachebridge.core.dropping.trail import (
    EVICTED,
    FLUSHED,
    MESSAGE,
    OWN_WRITE,
    PROBED,
    REFUSED,
    TOGETHER,
    WAITED,
)
from cachebridge.engine.fleet.asking import ask_fleet

if TYPE_CHECKING:
    from cachebridge.commands.telling import Answer
    from cachebridge.engine.admin import AdminMethods

MOST_S: Final = 3600.0
MOST_LINES: Final = 500
_KNOWN: Final = {
    OWN_WRITE: "changed by this process",
    EVICTED: "evicted to make room",
    TOGETHER: "dropped with its prefix or tag",
    PROBED: "dropped by a probe: older than L2 for too long",
    WAITED: "waits for the load of another process",
    REFUSED["conflict"]: "not stored: two reads found different values",
    REFUSED["off"]: "not stored: L1 was not trusted",
    REFUSED["tags"]: "not stored: a tag was invalidated meanwhile",
    REFUSED["token"]: "not stored: it was being changed",
}


def tail(cache: AdminMethods, seconds: float, timeout_s: float) -> Report:
    """Return the events of all processes, the newest last.

    A message that several processes have heard is one line.
    """
    asked = ask_fleet(engine_of(cache), "tail", timeout_s, seconds=seconds)
    names = {str(each["who"]["origin"]): name_of(each) for each in asked.answers}
    lines: dict[tuple[object, ...], _Line] = {}
    missed = []
    for each in asked.answers:
        known, own = part_of(each, "tail"), name_of(each)
        events = known.get("events")
        for one in events if isinstance(events, list) else ():
            if not isinstance(one, dict):
                continue
            line = _line(cache, one, names)
            same = (str(one.get("origin")), str(one.get("write")), line.key)
            which = same if one.get("origin") else (len(lines),)
            lines.setdefault(which, line).where.append(own)
        if known.get("left_out") or 0 < number_of(known.get("reaches_s")) < seconds:
            missed.append(own)
    in_order = sorted(lines.values(), key=lambda line: -line.ago_s)[-MOST_LINES:]
    rows = [(f"{a:.1f} s", few(where), what, key) for a, what, key, where in in_order]
    header = ("ago", "process", "what", "key")
    report = report_on(asked, [Table(header, rows, newest_last=True)])
    told = f"not all of it is remembered by {few(missed)}" if missed else ""
    return report._replace(text="\n".join(filter(None, (report.text, told))))


class _Line(NamedTuple):
    ago_s: float
    what: str
    key: str
    where: list[str]


def _line(cache: AdminMethods, event: Answer, names: dict[str, str]) -> _Line:
    """Return what has happened, and to which key."""
    ago_s, what = number_of(event.get("ago_s")), str(event.get("what"))
    key = shown_for(cache, str(event["key"])) if "key" in event else ""
    if what == MESSAGE:
        origin = str(event.get("origin"))
        told = f"changed by {names.get(origin, f'process {origin}')}"
    elif what == FLUSHED:
        told = f"L1 was emptied: {event.get('cause')}"
    else:
        facts = [
            f"{name}={value}"
            for name, value in event.items()
            if name not in {"ago_s", "what", "key"}
        ]
        told = " ".join((_KNOWN.get(what, what), *facts))
    return _Line(ago_s, told, key, [])
