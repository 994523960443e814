"""``who``, ``stats``, ``health``, ``conf``, ``why``, ``inspect``: ask all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.commands.report import Report, Table
from cachebridge.commands.telling import (
    age,
    milliseconds,
    name_of,
    part_of,
    percent,
    report_on,
    text_of,
    yes_no,
)
from cachebridge.core.keys import shown_key
from cachebridge.engine.fleet.asking import ask_fleet
from cachebridge.engine.fleet.stored import in_store
from cachebridge.stats import READS
from cachebridge.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.engine.admin import AdminMethods
    from cachebridge.engine.fleet.asking import Answers

Answer = dict[str, Any]


MOST_SHOWN: Final = 120
"""Characters of a key in a table."""


def engine_of(cache: AdminMethods) -> Any:
    """Return the engine of any adapter."""
    return cache._binding.engine  # noqa: SLF001 both are adapters


def full_key_of(cache: AdminMethods, key: str) -> str:
    """Return the key as the shared store has it."""
    return cache._full_key_of(key)  # noqa: SLF001 the same


def shown_for(cache: AdminMethods, full_key: str) -> str:
    """Return the key as callers of this cache have it; one of another cache full."""
    prefix = cache._binding.own_prefix or ""  # noqa: SLF001 the same
    return shown(full_key.removeprefix(prefix), MOST_SHOWN)


def who(cache: AdminMethods, timeout_s: float) -> Report:
    """Return which processes there are."""
    asked = ask_fleet(engine_of(cache), "who", timeout_s)
    header = ("process", "role", "version", "python", "up", "prefixes")
    rows = [
        (
            name_of(each),
            text_of(each["who"], "role"),
            text_of(each["who"], "version"),
            text_of(each["who"], "python"),
            age(each["who"].get("since")),
            " ".join(map(repr, each["who"].get("prefixes") or ())),
        )
        for each in asked.answers
    ]
    return report_on(asked, [Table(header, rows)])


def stats(cache: AdminMethods, timeout_s: float) -> Report:
    """Return a line of counters for each process, and their sum."""
    return report_of_stats(ask_fleet(engine_of(cache), "stats", timeout_s))


def report_of_stats(asked: Answers) -> Report:
    """Return what ``stats`` prints."""
    header = (
        "process", "role", "trusted", "L1 hits", "shared", "L2 hits", "misses",
        "L1 ratio", "entries", "bytes", "evicted", "p50", "p99",
    )  # fmt: skip
    rows = [_line_of_stats(each) for each in asked.answers]
    if len(rows) > 1:
        rows.append(_sum_of(asked.answers))
    untrusted = sum(
        part_of(each, "stats").get("trusted") is not True for each in asked[0]
    )
    told = f"L1 is not trusted in {untrusted} of them" if untrusted else ""
    return report_on(asked, [Table(header, rows)], finding=told)


def _line_of_stats(answer: Answer) -> tuple[str, ...]:
    known = part_of(answer, "stats")
    return (
        name_of(answer),
        text_of(answer["who"], "role"),
        yes_no(known.get("trusted")),
        *[text_of(known, each) for each in READS],
        percent(known.get("l1_hit_ratio")),
        *[text_of(known, each) for each in ("l1_entries", "l1_bytes", "evictions")],
        milliseconds(known.get("delay_p50_s")),
        milliseconds(known.get("delay_p99_s")),
    )


def _sum_of(answers: Iterable[Answer]) -> tuple[str, ...]:
    known = [part_of(each, "stats") for each in answers]

    def total(name: str) -> int:
        found = [each.get(name) for each in known]
        return sum(each for each in found if isinstance(each, int))

    reads = {name: total(name) for name in READS}
    ratio = reads["l1_hits"] / (sum(reads.values()) or 1)
    return (
        f"{len(known)} processes", "", "",
        *map(str, reads.values()), percent(ratio),
        str(total("l1_entries")), str(total("l1_bytes")), str(total("evictions")),
        "", "",
    )  # fmt: skip


def health(cache: AdminMethods, timeout_s: float) -> Report:
    """Return how each process is; it asks the shared store for that."""
    asked = ask_fleet(engine_of(cache), "health", timeout_s)
    header = ("process", "ok", "L2", "bus", "trusted", "owed", "bound", "error")
    rows = []
    for each in asked.answers:
        known = part_of(each, "health")
        rows.append(
            (
                name_of(each),
                *[
                    yes_no(known.get(name))
                    for name in ("ok", "l2_reachable", "bus_connected", "l1_trusted")
                ],
                f"{text_of(known, 'deletes_owed')}+{text_of(known, 'messages_owed')}",
                f"{text_of(known, 'staleness_bound_s')} s",
                text_of(known, "error"),
            )
        )
    ill = sum(part_of(each, "health").get("ok") is not True for each in asked.answers)
    told = f"{ill} of them are not ok" if ill else ""
    return report_on(asked, [Table(header, rows)], finding=told)


def conf(cache: AdminMethods, timeout_s: float) -> Report:
    """Return the options of all processes, and where they differ."""
    asked = ask_fleet(engine_of(cache), "conf", timeout_s)
    rows, differing = [], differences(asked.answers)
    for option, values in differing.items():
        rows += [(option, value, ", ".join(names)) for value, names in values.items()]
    first = part_of(asked.answers[0], "conf").get("engine") if asked.answers else None
    if not rows and isinstance(first, dict):
        rows = [(name, repr(first[name]), "all") for name in sorted(first)]
    told = f"processes differ in {', '.join(differing)}" if differing else ""
    header = ("option", "value", "processes")
    return report_on(asked, [Table(header, rows)], finding=told)


def differences(answers: Iterable[Answer]) -> dict[str, dict[str, list[str]]]:
    """Return the options of engines that differ: which values, and who has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for each in answers:
        engine = part_of(each, "conf").get("engine")
        for name, value in engine.items() if isinstance(engine, dict) else ():
            found.setdefault(name, {}).setdefault(repr(value), []).append(name_of(each))
    return {name: values for name, values in found.items() if len(values) > 1}


def why(cache: AdminMethods, key: str, timeout_s: float) -> Report:
    """Return, for each process, why the key is in its L1 or not."""
    full_key = full_key_of(cache, key)
    asked = ask_fleet(engine_of(cache), "why", timeout_s, key=full_key)
    names = {each["who"]["origin"]: name_of(each) for each in asked.answers}
    rows = []
    for each in asked.answers:
        sentence = text_of(part_of(each, "why"), "sentence") or text_of(each, "error")
        for origin, name in names.items():
            sentence = sentence.replace(f"process {origin}", name)
        rows.append((name_of(each), text_of(each["who"], "role"), sentence))
    store = in_store(engine_of(cache), full_key)
    report = report_on(asked, [Table(("process", "role", "why"), rows)])
    return report._replace(
        data={**report.data, "l2": store},
        text="\n".join(filter(None, (report.text, f"in L2: {store['sentence']}"))),
    )


def inspect(cache: AdminMethods, key: str, timeout_s: float) -> Report:
    """Return what the shared store and every L1 have of a key, side by side."""
    full_key = full_key_of(cache, key)
    asked = ask_fleet(engine_of(cache), "why", timeout_s, key=full_key)
    store = in_store(engine_of(cache), full_key)
    ttl_ms = store.get("ttl_ms", -1)
    rows = [
        (
            f"L2, {engine_of(cache).stores.label_of(full_key)}",
            "a value" if store["exists"] else "nothing",
            text_of(store, "bytes"),
            f"{ttl_ms / 1000:.1f} s" if ttl_ms >= 0 else "",
            "",
        )
    ]
    for each in asked.answers:
        known = part_of(each, "why")
        left = known.get("left_s")
        kind = "a mark of absence" if known.get("is_absent") else "a value"
        rows.append(
            (
                name_of(each),
                kind if known.get("in_l1") else "nothing",
                text_of(known, "bytes"),
                f"{left:.1f} s" if isinstance(left, (int, float)) else "",
                text_of(known, "code"),
            )
        )
    header = ("where", "has", "bytes", "left", "why")
    report = report_on(asked, [])
    return report._replace(
        tables=[Table(header, rows)],
        data={**report.data, "key": shown_key(full_key), "l2": store},
    )
