"""``report``: all that a bug report needs, as plain text, without keys and secrets."""

from __future__ import annotations

import platform
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from cachebridge.commands import asking, watching
from cachebridge.commands.asking import engine_of
from cachebridge.commands.doctor import doctor
from cachebridge.commands.report import DONE, FINDING, NOT_DONE, Report, Table
from cachebridge.commands.telling import name_of, part_of, report_on, text_of
from cachebridge.engine.fleet.asking import ask_fleet
from cachebridge.errors import CacheBridgeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.admin import AdminMethods

PAUSE_S: Final = 0.25
"""Between two questions: more than a process answers in a second it drops."""
PAST_S: Final = 3600.0
_PACKAGES: Final = (
    "cachebridge", "redis", "hiredis", "Django", "Flask", "gevent", "uvloop",
)  # fmt: skip


def bug_report(cache: AdminMethods, timeout_s: float) -> Report:
    """Ask all that is no key's own matter; what cannot be asked is told in its place.

    Hosts, programs, prefixes of keys and the server's address are named.
    """
    parts: dict[str, Callable[[AdminMethods, float], Report]] = {
        "who": asking.who,
        "conf": asking.conf,
        "health": asking.health,
        "stats": asking.stats,
        "history": watching.history,
        "log events": _events,
        "doctor": doctor,
    }
    here = _here()
    tables = [_title("asked by"), Table(("", ""), here)]
    data: dict[str, Any] = {"asked_by": dict(here)}
    statuses = set()
    for name, ask in parts.items():
        try:
            found = ask(cache, timeout_s)
        except CacheBridgeError as exc:
            found = Report(NOT_DONE, {"error": str(exc)}, (), str(exc))
        told = [Table((found.text,), ())] if found.text else []
        tables += [_title(name), *found.tables, *told]
        data[name.replace(" ", "_")] = found.data
        statuses.add(found.status)
        time.sleep(PAUSE_S)
    status = next((each for each in (NOT_DONE, FINDING) if each in statuses), DONE)
    return Report(status, data, tables, is_plain=True)


def _title(name: str) -> Table:
    return Table(("",), [(f"== {name} ==",)])


def _here() -> list[tuple[str, str]]:
    """Return the versions of the program that asks."""
    rows = [
        ("time", time.strftime("%Y-%m-%d %H:%M:%S %z")),
        ("python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("platform", f"{sys.platform} {platform.machine()}"),
    ]
    for package in _PACKAGES:
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return rows


def _events(cache: AdminMethods, timeout_s: float) -> Report:
    """Return what the processes have logged in the last hour, without keys."""
    asked = ask_fleet(engine_of(cache), "tail", timeout_s, seconds=PAST_S)
    rows, kept = [], []
    for each in asked.answers:
        events = part_of(each, "tail").get("events")
        for one in events if isinstance(events, list) else ():
            if not isinstance(one, dict) or "key" in one:
                continue
            facts = [
                f"{name}={value}"
                for name, value in one.items()
                if name not in {"ago_s", "what"}
            ]
            kept.append({"process": name_of(each), **one})
            line = (text_of(one, "ago_s"), name_of(each), text_of(one, "what"))
            rows.append((*line, " ".join(facts)))
    report = report_on(asked, [Table(("s ago", "process", "event", ""), rows)])
    return report._replace(data={"events": kept})
