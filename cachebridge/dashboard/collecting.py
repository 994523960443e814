"""What the page shows: the answers of every process, per server, as plain values.

Answers come from the bus, so no type in them is relied on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cachebridge.bus.asks import BadFrameError, new_ask
from cachebridge.core.keys import shown_key
from cachebridge.dashboard.answers import (
    maybe,
    name_of,
    number,
    numbers,
    part,
    parts,
    text,
)
from cachebridge.engine.fleet.answers import answer_of
from cachebridge.engine.fleet.asking import Answers, ask_fleet
from cachebridge.engine.fleet.stored import in_store
from cachebridge.engine.watching.history import KEPT
from cachebridge.errors import L2Error, UnsupportedOperationError
from cachebridge.stats import READS
from cachebridge.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cachebridge.engine.admin import AdminMethods
    from cachebridge.engine.engine import Engine

Known = dict[str, Any]

VERBS: Final = ("stats", "health", "history")
HOT: Final = "hot"
"""Asked too where the viewer may see keys."""
MOST_HOT: Final = 10
"""Keys of one server that are shown."""
SLOT_S: Final = 10
"""Seconds of a point of the fleet's curve."""
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
        self._of: tuple[dict[str, Engine], bool] | None = None
        self._until = 0.0

    def collect(
        self, caches: Mapping[str, AdminMethods], *, with_keys: bool = False
    ) -> Known:
        """Return what ``collect`` does, at most ``FRESH_S`` seconds old."""
        of = {name: engine_of(each) for name, each in caches.items()}, with_keys
        with self._lock:
            is_same = self._of == of and time.monotonic() < self._until
            if self._known is None or not is_same:
                self._known = collect(caches, with_keys=with_keys)
                self._of = of
                self._until = time.monotonic() + FRESH_S
            return self._known

    def forget(self) -> None:
        """Collect anew at the next call: something was changed.

        Waits for a collection under way, which may have seen what was before.
        """
        with self._lock:
            self._until = 0.0


def engine_of(cache: AdminMethods) -> Engine:
    """Return the engine of any adapter."""
    return cache._binding.engine  # noqa: SLF001 private to cachebridge


def collect(caches: Mapping[str, AdminMethods], *, with_keys: bool = False) -> Known:
    """Ask every process on the servers of these caches, all at once.

    Returns ``at`` (seconds since 1970), ``caches`` (their names), and ``servers``, each
    with ``label``, ``caches``, ``processes``, ``reached``, ``curve``, and ``trouble``:
    why its processes could not be asked, then the only one is this very process.
    ``with_keys`` adds ``hot``, the keys that L1 answers most often.
    """
    engines = {engine_of(each): None for each in caches.values()}
    verbs = (*VERBS, HOT) if with_keys else VERBS
    asked = [(engine, verb) for engine in engines for verb in verbs]
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        found = list(pool.map(lambda each: _ask(*each), asked))
    servers = []
    for index, engine in enumerate(engines):
        names = [each for each in caches if engine_of(caches[each]) is engine]
        answers = found[index * len(verbs) :][: len(verbs)]
        prefixes = {each: _prefix_of(caches[each]) for each in names}
        servers.append(_server(engine, prefixes, answers))
    return {"at": time.time(), "caches": list(caches), "servers": servers}


def _prefix_of(cache: AdminMethods) -> str:
    return cache._binding.own_prefix or ""  # noqa: SLF001 private to cachebridge


def _ask(engine: Engine, verb: str, **arguments: Any) -> Answers | str:
    """Return the answers, or why there are none."""
    try:
        if verb == HOT:
            arguments["most"] = MOST_HOT
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
        "curve": _curve(answers.values()),
        "hot": _hot(answers.values(), prefixes),
        "processes": [_process(each, prefixes) for each in answers.values()],
    }


def _curve(answers: Iterable[Known]) -> list[float | None]:
    """Return the fleet's L1 hit ratio in the last minutes; None where nothing was read.

    One number for each slot of ten seconds, by the clock.
    """
    hits: Counter[int] = Counter()
    reads: Counter[int] = Counter()
    for each in answers:
        known = part(each, "history")
        columns = [numbers(known, name) for name in ("at", *READS)]
        for at, *counts in zip(*columns, strict=False):
            slot = int(at // SLOT_S)
            hits[slot] += int(counts[0])
            reads[slot] += int(sum(counts))
    if not reads:
        return []
    last = max(reads)
    slots = range(max(min(reads), last - KEPT + 1), last + 1)
    return [hits[each] / reads[each] if reads[each] else None for each in slots]


def _hot(answers: Iterable[Known], prefixes: dict[str, str]) -> list[Known]:
    """Add up which keys the processes find hot: ``cache``, ``key``, ``per_s``, ..."""
    rates: dict[str, float] = {}
    where: Counter[str] = Counter()
    total = 0.0
    for each in answers:
        known = part(each, HOT)
        total += number(known, "hits_per_s")
        for one in parts(known, "keys"):
            full_key = text(one, "key", MOST_KEY)
            rates[full_key] = rates.get(full_key, 0.0) + number(one, "hits_per_s")
            where[full_key] += 1
    hottest = sorted(rates, key=rates.__getitem__, reverse=True)[:MOST_HOT]
    return [
        {
            **_named(full_key, prefixes),
            "per_s": rates[full_key],
            "share": rates[full_key] / total if total else None,
            "processes": where[full_key],
        }
        for full_key in hottest
    ]


def _named(full_key: str, prefixes: dict[str, str]) -> Known:
    """Return the key as its program has it, if it is one of the caches here."""
    of = [each for each in prefixes if full_key.startswith(prefixes[each])]
    if not of:
        return {"cache": "", "key": shown(full_key)}
    cache = max(of, key=lambda each: len(prefixes[each]))
    return {"cache": cache, "key": shown(full_key.removeprefix(prefixes[cache]))}


def _process(answer: Known, prefixes: dict[str, str]) -> Known:
    """Return one process in the page's words."""
    who, stats, health = (part(answer, each) for each in ("who", "stats", "health"))
    theirs = who.get("prefixes")
    # A process has none between two requests, if each makes its cache objects.
    theirs = theirs if isinstance(theirs, list) and theirs else [*prefixes.values()]
    counts = {name: number(stats, name) for name in READS}
    hits, reads = counts["l1_hits"], sum(counts.values())
    since = number(who, "since")
    return {
        "name": name_of(who),
        "role": text(who, "role"),
        "version": text(who, "version"),
        "up_s": max(0.0, time.time() - since) if since else None,
        "caches": [each for each, prefix in prefixes.items() if prefix in theirs],
        "trust": _trust(stats, health),
        "reason": text(health, "error") or text(answer, "error"),
        **counts,
        "ratio": hits / reads if reads else None,
        "entries": number(stats, "l1_entries"),
        "bytes": number(stats, "l1_bytes"),
        "evictions": number(stats, "evictions"),
        "delay_p50_s": maybe(stats, "delay_p50_s"),
        "delay_p99_s": maybe(stats, "delay_p99_s"),
        "delay_count": number(part(stats, "invalidation_delay"), "count"),
        "curve": _curve([answer]),
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
                "bytes": maybe(why, "bytes"),
                "left_s": maybe(why, "left_s"),
            }
        )
    return found
