"""What the page shows: the answers of every process, per server, as plain values.

Answers come from the bus, so no type in them is relied on.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cachebridge.bus.asks import BadFrameError, new_ask
from cachebridge.core.keys import shown_key
from cachebridge.engine.fleet.answers import answer_of
from cachebridge.engine.fleet.asking import Answers, ask_fleet
from cachebridge.engine.fleet.stored import in_store
from cachebridge.errors import L2Error, UnsupportedOperationError
from cachebridge.texts import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cachebridge.engine.admin import AdminMethods
    from cachebridge.engine.engine import Engine

Known = dict[str, Any]

VERBS: Final = ("stats", "health")
PATIENCE_S: Final = 1.0
"""How long a process that is slow or hangs may delay the page."""
FRESH_S: Final = 1.0
"""For how long what was collected serves other viewers, too."""
MOST_KEY: Final = 2000
"""Characters of a key that can be asked for: a question has 4 KiB."""


class Collector:
    """Collects for one page, once for all that ask at the same time.  Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._of: dict[str, Engine] = {}
        self._until = 0.0

    def collect(self, caches: Mapping[str, AdminMethods]) -> Known:
        """Return what ``collect`` does, at most ``FRESH_S`` seconds old."""
        of = {name: engine_of(each) for name, each in caches.items()}
        with self._lock:
            is_same = self._of == of and time.monotonic() < self._until
            if self._known is None or not is_same:
                self._known, self._of = collect(caches), of
                self._until = time.monotonic() + FRESH_S
            return self._known

    def forget(self) -> None:
        """Collect anew at the next call: something was changed."""
        self._until = 0.0


def engine_of(cache: AdminMethods) -> Engine:
    """Return the engine of any adapter."""
    return cache._binding.engine  # noqa: SLF001 private to cachebridge


def collect(caches: Mapping[str, AdminMethods]) -> Known:
    """Ask every process on the servers of these caches, all at once.

    Returns ``at`` (seconds since 1970), ``caches`` (their names), and ``servers``, each
    with ``label``, ``caches``, ``processes``, ``reached``, and ``trouble``: why its
    processes could not be asked, then the only one is this very process.
    """
    engines = {engine_of(each): None for each in caches.values()}
    asked = [(engine, verb) for engine in engines for verb in VERBS]
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        found = list(pool.map(lambda each: _ask(*each), asked))
    servers = []
    for number, engine in enumerate(engines):
        names = [each for each in caches if engine_of(caches[each]) is engine]
        answers = found[number * len(VERBS) :][: len(VERBS)]
        prefixes = {each: caches[each]._binding.own_prefix or "" for each in names}  # noqa: SLF001 the same
        servers.append(_server(engine, prefixes, answers))
    return {"at": time.time(), "caches": list(caches), "servers": servers}


def _ask(engine: Engine, verb: str, **arguments: Any) -> Answers | str:
    """Return the answers, or why there are none."""
    try:
        return ask_fleet(engine, verb, PATIENCE_S, **arguments)
    except UnsupportedOperationError as exc:
        return str(exc)
    except BadFrameError:
        return "the key is too long to be asked for"
    except L2Error as exc:
        return f"{engine.location.label} cannot be asked: {exc}"


def _server(
    engine: Engine, prefixes: dict[str, str], found: list[Answers | str]
) -> Known:
    trouble = next((each for each in found if isinstance(each, str)), "")
    reached: int | None = None
    answers: dict[str, Known] = {}
    if not trouble:
        for each in found:
            if isinstance(each, Answers):
                reached = max(reached or 0, each.reached or 0, len(each.answers))
                for answer in each.answers:
                    answers.setdefault(str(answer["who"]["origin"]), {}).update(answer)
        if not answers:
            trouble = (
                f"No process on {engine.location.label} answers: none has read three "
                "times yet, all have FLEET_ASK off, or an old release."
            )
    is_own = not answers
    if is_own:
        own = answer_of(engine, new_ask("stats", {}))
        answers = {str(own["who"]["origin"]): own}
    return {
        "label": engine.location.label,
        "caches": list(prefixes),
        "trouble": trouble,
        "outage": engine.breaker.is_open,
        "reached": reached,
        "missing": 0 if is_own else max(0, (reached or 0) - len(answers)),
        "processes": [_process(each, prefixes) for each in answers.values()],
    }


def _process(answer: Known, prefixes: dict[str, str]) -> Known:
    """Return one process in the page's words."""
    who, stats, health = (part(answer, each) for each in ("who", "stats", "health"))
    theirs = who.get("prefixes")
    # A process has none between two requests, if each makes its cache objects.
    theirs = theirs if isinstance(theirs, list) and theirs else [*prefixes.values()]
    hits, others = number(stats, "l1_hits"), number(stats, "l2_hits")
    reads = hits + others + number(stats, "misses")
    since = number(who, "since")
    return {
        "name": name_of(who),
        "role": text(who, "role"),
        "version": text(who, "version"),
        "up_s": max(0.0, time.time() - since) if since else None,
        "caches": [each for each, prefix in prefixes.items() if prefix in theirs],
        "trust": _trust(stats, health),
        "reason": text(health, "error") or text(answer, "error"),
        "l1_hits": hits,
        "l2_hits": others,
        "misses": number(stats, "misses"),
        "ratio": hits / reads if reads else None,
        "entries": number(stats, "l1_entries"),
        "bytes": number(stats, "l1_bytes"),
        "evictions": number(stats, "evictions"),
        "delay_p50_s": _maybe(stats, "delay_p50_s"),
        "delay_p99_s": _maybe(stats, "delay_p99_s"),
        "delay_count": number(part(stats, "invalidation_delay"), "count"),
        "owed": number(health, "deletes_owed") + number(health, "messages_owed"),
    }


def _trust(stats: Known, health: Known) -> str:
    """Return ``trusted``, ``off`` (by the switch), ``resting``, or ``unknown``."""
    if stats.get("trusted") is True:
        return "trusted"
    if health.get("l1_enabled") is False:
        return "off"
    return "resting" if "trusted" in stats else "unknown"


def look(cache: AdminMethods, key: str) -> Known:
    """Return what the shared store and every L1 have of a key, never the value.

    ``key`` and ``server`` as they may be shown, ``store``, ``trouble``, and in
    ``processes`` what each says of its L1; or ``error``, if it is no key.
    """
    try:
        full_key = cache._full_key_of(key)  # noqa: SLF001 private to cachebridge
    except (TypeError, ValueError, Warning) as exc:  # Django warns of some keys
        return {"key": shown_key(key), "error": shown(str(exc), 200)}
    engine = engine_of(cache)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(partial(_ask, engine, "why", key=full_key))
        try:
            store = in_store(engine, full_key)
        except L2Error as exc:
            store = {"exists": None, "sentence": f"cannot be asked: {exc}"}
        asked = asking.result()
    trouble = asked if isinstance(asked, str) else ""
    answers = [] if isinstance(asked, str) else asked.answers
    if not answers:
        answers = [answer_of(engine, new_ask("why", {"key": full_key}))]
    return {
        "key": shown_key(full_key),
        "server": engine.stores.label_of(full_key),
        "store": store,
        "trouble": trouble,
        "processes": _look_at(answers),
    }


def _look_at(answers: list[Known]) -> list[Known]:
    names = {text(each["who"], "origin"): name_of(each["who"]) for each in answers}
    found = []
    for each in answers:
        why = part(each, "why")
        sentence = text(why, "sentence") or text(each, "error")
        for origin, name in names.items():
            sentence = sentence.replace(f"process {origin}", name)
        found.append(
            {
                "name": name_of(each["who"]),
                "role": text(each["who"], "role"),
                "code": text(why, "code"),
                "sentence": sentence,
                "in_l1": why.get("in_l1") is True,
                "is_absent": why.get("is_absent") is True,
                "bytes": _maybe(why, "bytes"),
                "left_s": _maybe(why, "left_s"),
            }
        )
    return found


# -- answers of others -----------------------------------------------------------------


def name_of(who: Known) -> str:
    """Return the host and pid of who has answered."""
    return f"{text(who, 'host')}/{text(who, 'pid')}"


def part(known: Known, name: str) -> Known:
    """Return a part of an answer; empty if it is none."""
    found = known.get(name)
    return found if isinstance(found, dict) else {}


def text(known: Known, name: str) -> str:
    """Return a text of an answer, in one line and bounded."""
    value = known.get(name)
    return "" if value is None else shown(str(value), 300)


def number(known: Known, name: str) -> float:
    """Return a number of an answer; 0 if it is none."""
    return _maybe(known, name) or 0


def _maybe(known: Known, name: str) -> float | None:
    value = known.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None
