"""The verbs, their arguments, and ``python -m cachebridge``.

One parser for all programs: Django's commands are argparse's, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from cachebridge.cache import Cache
from cachebridge.commands import asking, watching
from cachebridge.commands.bug_report import bug_report
from cachebridge.commands.doctor import doctor
from cachebridge.commands.report import DONE, NOT_DONE, Report, show, watched
from cachebridge.commands.tail import MOST_S, tail
from cachebridge.commands.warming import WARM_HELP, add_keys, warm
from cachebridge.engine.watching.hot_keys import MOST_HOT
from cachebridge.errors import CacheBridgeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.engine.admin import AdminMethods

ASKING: Final[dict[str, str]] = {
    "who": "list the processes that listen on the server",
    "stats": "show the counters of every process, and their sum",
    "health": "show how every process is",
    "conf": "show the options of the processes, and where they differ",
    "doctor": "check twenty things in order, and say what to do",
    "top": "show stats and hot keys again and again, the busiest process first",
    "hot": "show the keys that L1 answers most often now",
    "tail": "show what has happened in the last seconds: drops, and log events",
    "history": "show the counters of the last ten minutes, ten seconds a line",
    "inspect": "show what the shared store and every L1 have of a key",
    "report": "print what a bug report needs, without keys and passwords",
    "why": "say for every process why a key is in its L1 or not",
}
SWITCHING: Final[dict[str, str]] = {
    "l1": "turn L1 off or on in the whole fleet",
    "evict": "delete keys, in the shared store and in every L1",
    "clear": "delete all keys of the cache",
}
FROM_ENVIRONMENT: Final = "env:"


def _timeout(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 60:  # noqa: PLR2004 a minute
        raise ValueError(text)
    return seconds


def _most(text: str) -> int:
    if not 0 < int(text) <= MOST_HOT:
        raise ValueError(text)
    return int(text)


def _past(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= MOST_S:
        raise ValueError(text)
    return seconds


def add_verbs(verbs: Any, add_place: Callable[[Any], object]) -> None:
    """Add a parser for each verb; ``add_place`` adds the arguments of the cache."""
    warming = verbs.add_parser("warm", help=WARM_HELP, description=WARM_HELP)
    add_place(warming)
    add_keys(warming)
    for verb, told in ASKING.items():
        each = verbs.add_parser(verb, help=told, description=told)
        add_place(each)
        if verb in {"why", "inspect"}:
            each.add_argument("key", metavar="KEY", help="a key, as the caller has it")
        if verb == "hot":
            each.add_argument(
                "most", type=_most, nargs="?", default=10, metavar="N", help="how many"
            )
        if verb == "tail":
            each.add_argument(
                "seconds", type=_past, nargs="?", default=10.0, metavar="SECONDS"
            )
        each.add_argument("--json", action="store_true", help="print JSON")
        each.add_argument(
            "--timeout", type=_timeout, default=1.0, metavar="S", help="seconds to wait"
        )
        each.add_argument(
            "--watch",
            type=_timeout,
            default=2.0 if verb == "top" else None,
            metavar="S",
            help="repeat every so many seconds",
        )
    for verb, told in SWITCHING.items():
        each = verbs.add_parser(verb, help=told, description=told)
        add_place(each)
        if verb == "l1":
            each.add_argument("state", choices=("on", "off"))
        if verb == "evict":
            each.add_argument("keys", nargs="+", metavar="KEY")
        each.add_argument("--yes", action="store_true", help="do not ask first")


def carry_out(cache: AdminMethods, given: Any, out: Any) -> Report:
    """Carry out the verb that was given for a cache; write what it has found.

    ``out`` is a text file.  The text of a report that is not DONE is left to the
    caller.  Raises CacheBridgeError if the server cannot be asked, or nothing can be
    done.
    """
    as_json, every_s = getattr(given, "json", False), getattr(given, "watch", None)
    if not every_s:
        report = _report_of(cache, given)
        show(report, out, as_json=as_json)
        return report
    with watched(out, as_json=as_json) as show_next:
        while True:
            show_next(_report_of(cache, given))
            time.sleep(every_s)


def _report_of(cache: AdminMethods, given: Any) -> Report:
    if given.verb == "warm":
        status, told = warm(cache, given.keys, given.pattern)
        return Report(status, {"told": told}, (), told)
    if given.verb in SWITCHING:
        return _switch(cache, given)
    argument = _ARGUMENT.get(given.verb)
    arguments = () if argument is None else (getattr(given, argument),)
    return _ASK[given.verb](cache, *arguments, given.timeout)


_ARGUMENT: Final = {"why": "key", "inspect": "key", "hot": "most", "tail": "seconds"}
_ASK: Final[dict[str, Callable[..., Report]]] = {
    "who": asking.who,
    "stats": asking.stats,
    "top": watching.top,
    "hot": watching.hot,
    "tail": tail,
    "history": watching.history,
    "health": asking.health,
    "conf": asking.conf,
    "doctor": doctor,
    "report": bug_report,
    "inspect": asking.inspect,
    "why": asking.why,
}


def _switch(cache: Any, given: Any) -> Report:
    """Change something in the whole fleet, after a question."""
    if not given.yes and not _confirmed(f"{SWITCHING[given.verb]}? [y/N] "):
        return Report(NOT_DONE, {}, (), "nothing was done: answer y, or give --yes.")
    if given.verb == "l1":
        cache.l1_on() if given.state == "on" else cache.l1_off()
        told = f"L1 is {given.state} in the whole fleet."
    elif given.verb == "evict":
        count = cache.delete_many(given.keys)
        told = f"{len(given.keys) if count is None else count} keys were deleted."
    else:
        cache.clear()
        told = "the cache was cleared."
    return Report(DONE, {"told": told}, (), told)


def _confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def add_url(parser: Any) -> None:
    """Add the arguments of a cache that only its URL names."""
    parser.add_argument(
        "url",
        metavar="URL",
        help="the LOCATION of the cache; env:NAME reads it from a variable",
    )
    parser.add_argument(
        "--key-prefix", default="", help="its KEY_PREFIX; Django's are 'prefix:1:'"
    )
    parser.add_argument("--bus-location", metavar="URL", help="its BUS_LOCATION")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one verb; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachebridge")
    add_verbs(parser.add_subparsers(dest="verb", required=True), add_url)
    given = parser.parse_args(arguments)
    try:
        options: dict[str, Any] = {"KEY_PREFIX": given.key_prefix, "ON_ERROR": "raise"}
        if given.bus_location is not None:
            options["BUS_LOCATION"] = _read(given.bus_location)
        with Cache(_read(given.url), **options) as cache:
            report = carry_out(cache, given, sys.stdout)
        if report.status != DONE and report.text:
            sys.stderr.write(f"{report.text}\n")
    except CacheBridgeError as exc:
        sys.stderr.write(f"{exc}\n")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
    else:
        return report.status
    return NOT_DONE


def _read(url: str) -> str:
    """Return a URL, also one that stands in a variable: others see arguments."""
    if not url.startswith(FROM_ENVIRONMENT):
        return url
    name = url.removeprefix(FROM_ENVIRONMENT)
    if not (found := os.environ.get(name)):
        raise ConfigError(f"the variable {name!r} is not set.")
    return found
