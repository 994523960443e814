"""The parts of the page that are renewed every five seconds: tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.dashboard.markup import Html, join, tag
from cachebridge.stats import READS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Known = dict[str, Any]

NOTHING: Final = "\N{EN DASH}"
_TRUST: Final = {
    "trusted": ("ok", "\N{CHECK MARK}", "trusted"),
    "resting": ("bad", "\N{MULTIPLICATION X}", "not trusted"),
    "off": ("warn", "\N{BLACK CIRCLE}", "switched off"),
    "unknown": ("warn", "?", "no answer"),
}


def parts_of(known: Known) -> dict[str, Html]:
    """Return the renewed parts of the page, by their ids."""
    return {
        "cb-at": _at(known),
        "cb-trouble": join(*[_trouble(each) for each in known["servers"]]),
        "cb-trust": _matrix(known),
        "cb-servers": join(*[_server(*each) for each in enumerate(known["servers"])]),
    }


def _at(known: Known) -> Html:
    minutes, seconds = divmod(int(known["at"]) % 86400, 60)
    moment = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return join("As of ", tag("time", moment), " UTC")


def _trouble(server: Known) -> Html:
    found = []
    if server["trouble"]:
        told = "The figures below are those of the process that made this page."
        found.append(f"{server['trouble'].rstrip('.')}. {told}")
    if server["outage"]:
        found.append(
            f"{server['label']} is away: callers get what is written for an outage."
        )
    if server["missing"]:
        found.append(
            f"{server['missing']} of {server['reached']} processes on "
            f"{server['label']} did not answer in time."
        )
    return join(*[tag("p", each, class_="cb-note cb-bad") for each in found])


# -- trust -----------------------------------------------------------------------------


def _matrix(known: Known) -> Html:
    """Return a row for each process, a column for each cache."""
    names = known["caches"]
    rows = []
    for server in known["servers"]:
        for process in server["processes"]:
            cells = [_cell(process, each in server["caches"], each) for each in names]
            rows.append([_who(process), *cells])
    return table("cb-matrix", "Trust in L1", ["process", *names], rows)


def _cell(process: Known, is_here: bool, name: str) -> Html:
    if not is_here or name not in process["caches"]:
        return tag("span", f"{NOTHING} not in use", class_="cb-chip cb-none")
    chip = chip_of(process["trust"])
    if process["trust"] == "trusted" or not process["reason"]:
        return chip
    return join(chip, tag("span", process["reason"], class_="cb-why"))


def chip_of(trust: str) -> Html:
    """Return the state in words, with a mark and a colour."""
    colour, mark, told = _TRUST[trust]
    mark = tag("span", mark, aria_hidden="true")
    return tag("span", mark, f" {told}", class_=f"cb-chip cb-{colour}")


def _who(process: Known) -> Html:
    role = tag("span", process["role"], class_="cb-role")
    return join(process["name"], " ", role)


# -- one server ------------------------------------------------------------------------


def _server(number: int, server: Known) -> Html:
    processes, points = server["processes"], len(server["curve"])
    figures = [_figures(each, points) for each in processes]
    label = tag("code", server["label"])
    caches = ", ".join(server["caches"])
    columns = [
        "process", "L1 hit ratio", "L1 hits", "shared", "L2 hits", "misses", "entries",
        "memory", "evicted", "delay p50", "delay p99", "owed", "up",
    ]  # fmt: skip
    return tag(
        "section",
        tag("h3", label, " ", tag("span", caches, class_="cb-role")),
        _tiles(processes, server["curve"]),
        table(f"cb-figures-{number}", "Figures", columns, figures),
        _hot(number, server["hot"]) if server["hot"] else None,
        aria_label=f"Server {server['label']}",
    )


def _hot(number: int, keys: Sequence[Known]) -> Html:
    """Return the keys that L1 answers most often now."""
    columns = "hot key", "cache", "hits/s", "of all", "processes"
    rows = [
        (
            tag("code", each["key"]),
            each["cache"] or NOTHING,
            count(each["per_s"]),
            percent(each["share"]),
            count(each["processes"]),
        )
        for each in keys
    ]
    return table(f"cb-hot-{number}", "Hot keys", columns, rows)


def _tiles(processes: Sequence[Known], curve: Sequence[float | None]) -> Html:
    hits = sum(each["l1_hits"] for each in processes)
    reads = sum(each[name] for each in processes for name in READS)
    trusted = sum(each["trust"] == "trusted" for each in processes)
    delays = [each["delay_p99_s"] for each in processes if each["delay_count"]]
    tiles = {
        "L1 trusted": f"{trusted} of {len(processes)}",
        "L1 hit ratio": join(percent(hits / reads if reads else None), curve_of(curve)),
        "reads": count(reads),
        "delay p99": _delay(max(delays, key=_or_endless)) if delays else NOTHING,
        "memory": size(sum(each["bytes"] for each in processes)),
    }
    return tag(
        "dl",
        *[
            tag("div", tag("dt", name), tag("dd", value), class_="cb-tile")
            for name, value in tiles.items()
        ],
        class_="cb-tiles",
    )


def _or_endless(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


def _figures(process: Known, points: int) -> list[object]:
    counted = bool(process["delay_count"])
    return [
        _who(process),
        join(curve_of(process["curve"], points), percent(process["ratio"])),
        *[count(process[each]) for each in (*READS, "entries")],
        size(process["bytes"]),
        count(process["evictions"]),
        _delay(process["delay_p50_s"]) if counted else NOTHING,
        _delay(process["delay_p99_s"]) if counted else NOTHING,
        count(process["owed"]),
        age(process["up_s"]),
    ]


# -- curves ----------------------------------------------------------------------------

LEAST_WIDE: Final = 12
HIGH: Final = 20
"""Units of a curve: a point of ten seconds is one wide, no hits are at the bottom."""


def curve_of(shares: Sequence[float | None], points: int = 0) -> Html | None:
    """Return the curve of a ratio as a picture that is told, too; None if empty.

    It ends at the right, and has room for ``points``: those of curves beside it.
    """
    known = [each for each in shares if each is not None]
    if not known:
        return None
    lines: list[list[str]] = [[]]
    wide = max(LEAST_WIDE, points, len(shares))
    for x, share in enumerate(shares, wide - len(shares)):
        if share is None:
            lines.append([])
            continue
        y = HIGH - 1 - min(1.0, max(0.0, share)) * (HIGH - 2)
        lines[-1].append(f"{x},{y:.1f} {x + 1},{y:.1f}")
    drawn = [tag("polyline", points=" ".join(each)) for each in lines if each]
    told = (
        f"L1 hit ratio of the last {len(shares) * 10} seconds: lowest "
        f"{min(known):.0%}, highest {max(known):.0%}, last {known[-1]:.0%}"
    )
    return tag(
        "svg",
        tag("line", x1=0, y1=HIGH - 1, x2=wide, y2=HIGH - 1),
        *drawn,
        viewBox=f"0 0 {wide} {HIGH}",
        preserveAspectRatio="none",
        class_="cb-curve",
        role="img",
        aria_label=told,
    )


# -- tables and figures ----------------------------------------------------------------


def table(
    ident: str, label: str, header: Iterable[object], rows: Iterable[Sequence[object]]
) -> Html:
    """Return a table that scrolls sideways where it is too wide, also by keyboard."""
    head = tag("tr", *[tag("th", each, scope="col") for each in header])
    body = [
        tag("tr", tag("th", first, scope="row"), *[tag("td", each) for each in rest])
        for first, *rest in rows
    ]
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag(
        "div",
        whole,
        id=ident,
        class_="cb-scroll",
        role="region",
        aria_label=label,
        tabindex=0,
    )


def percent(share: float | None) -> str:
    """Return ``91.2 %``."""
    return NOTHING if share is None else f"{share:.1%}".replace("%", "\N{NBSP}%")


def count(value: float) -> str:
    """Return ``12,345``, or ``1.23 M`` from ten millions on."""
    if value >= 10_000_000:  # noqa: PLR2004 as the docstring says
        return f"{value / 1_000_000:,.1f}\N{NBSP}M"
    return f"{int(value):,}"


def size(value: float | None) -> str:
    """Return bytes as ``448 B``, ``1.2 KiB``, ``3.4 MiB``."""
    if value is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:  # noqa: PLR2004 what the units say
            return (
                f"{value:.0f}\N{NBSP}B" if unit == "B" else f"{value:.1f}\N{NBSP}{unit}"
            )
        value /= 1024
    return f"{value:.1f}\N{NBSP}GiB"


def _delay(seconds: float | None) -> str:
    if seconds is None:
        return "> 2.5\N{NBSP}s"
    return f"{1000 * seconds:g}\N{NBSP}ms"


def age(seconds: float | None) -> str:
    """Return ``12 s``, ``3 min``, ``4 h``, ``5 d``."""
    if seconds is None:
        return NOTHING
    for unit, most in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < most:
            return f"{int(seconds)}\N{NBSP}{unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{int(seconds)}\N{NBSP}d"
