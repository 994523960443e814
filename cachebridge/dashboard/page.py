"""The page: what is renewed, the box for a key, the switches, and their questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.dashboard.collecting import MOST_KEY
from cachebridge.dashboard.markup import Html, join, tag
from cachebridge.dashboard.parts import NOTHING, parts_of, size, table

if TYPE_CHECKING:
    from collections.abc import Iterable

Known = dict[str, Any]

EVERY_S: Final = 5
TITLE: Final = "Caches"


class Verb(NamedTuple):
    """A switch: what its button says, what it asks first, and what it says then."""

    button: str
    question: str
    done: str
    is_danger: bool


VERBS: Final = {
    "l1_off": Verb(
        "Turn L1 off",
        "Turn L1 off in every process on {server}? All reads go to the shared store, "
        "until L1 is turned on again, also after restarts.",
        "L1 is off in every process on the server of {cache}.",
        is_danger=True,
    ),
    "l1_on": Verb(
        "Turn L1 on",
        "Turn L1 on in every process on {server}?",
        "L1 is on in every process on the server of {cache}.",
        is_danger=False,
    ),
    "clear": Verb(
        "Clear",
        "Delete all keys of the cache {cache}, in {server} and in every L1? "
        "Whatever was cached has to be computed anew.",
        "The cache {cache} was cleared.",
        is_danger=True,
    ),
}
LATER: Final = "clear_later"
DONE: Final = {
    **{name: each.done for name, each in VERBS.items()},
    LATER: "The shared store is away: {cache} is cleared when it is back.",
}
"""What the page says when a switch was thrown."""


class Place(NamedTuple):
    """Where the page is, and what its viewer may do."""

    page: str
    state: str
    key: str
    act: str
    may_inspect: bool
    may_clear: bool
    guard: Html
    """The hidden field that a form of this site needs (CSRF)."""
    token: str = ""
    """What a cookie must have for it, where the framework has no such guard."""


def page_of(
    place: Place,
    known: Known,
    *,
    key: str = "",
    asked: str = "",
    found: Known | None = None,
    done: str = "",
    trouble: str = "",
) -> Html:
    """Return the page's content.

    ``key`` is what the viewer has typed for the cache ``asked``, ``found`` the answer;
    ``done`` says what a switch has just done, ``trouble`` why it has not.
    """
    parts = {name: tag("div", html, id=name) for name, html in parts_of(known).items()}
    names = known["caches"]
    pause = tag("button", "Pause", type="button", id="cb-pause", hidden=True)
    sections = [
        tag("p", done, class_="cb-note cb-ok", role="status") if done else None,
        tag("p", trouble, class_="cb-note cb-bad", role="alert") if trouble else None,
        tag("div", parts["cb-at"], pause, class_="cb-bar"),
        tag("p", id="cb-silence", class_="cb-note cb-bad", role="alert", hidden=True),
        parts["cb-trouble"],
        _section("cb-h-trust", "Trust in L1, by process and cache", parts["cb-trust"]),
    ]
    if place.may_inspect:
        box = _box(place, names, key, asked), _answer(found) if found else None
        sections.append(_section("cb-h-key", "A key", *box))
    sections.append(_section("cb-h-servers", "Servers", parts["cb-servers"]))
    if place.may_clear:
        sections.append(_section("cb-h-switches", "Switches", _switches(place, names)))
    if not names:
        sections = [tag("p", "No cache here is one of cachebridge.", class_="cb-note")]
    return tag(
        "div", *sections, class_="cb", id="cachebridge", lang="en",
        data_state=place.state, data_every=EVERY_S,
    )  # fmt: skip


def _section(ident: str, title: str, *content: object) -> Html:
    heading = tag("h2", title, id=ident)
    return tag("section", heading, *content, aria_labelledby=ident)


# -- the box for a key -----------------------------------------------------------------


def _box(place: Place, names: Iterable[str], key: str, asked: str) -> Html:
    options = [tag("option", each, selected=each == asked) for each in names]
    field = tag(
        "input", type="text", name="key", id="cb-key", value=key, required=True,
        maxlength=MOST_KEY, autocomplete="off", autocapitalize="off",
        spellcheck="false", size=40,
    )  # fmt: skip
    return tag(
        "form",
        place.guard,
        tag("label", "Cache", for_="cb-cache"),
        tag("select", *options, name="cache", id="cb-cache"),
        tag("label", "Key, as the program has it", for_="cb-key"),
        field,
        tag("button", "Why?", type="submit", class_="cb-button"),
        method="post",
        action=f"{place.key}#cb-h-key",
        class_="cb-form",
    )


def _answer(found: Known) -> Html:
    """Return what the shared store and each L1 have, side by side."""
    if "error" in found:
        told = f"{found['key']} is no key: {found['error']}"
        return tag("p", told, class_="cb-note cb-bad", role="status")
    store = found["store"]
    ttl_ms = store.get("ttl_ms", -1)
    has = {True: "a value", False: "nothing", None: NOTHING}[store["exists"]]
    left = "no expiry" if ttl_ms < 0 else f"{ttl_ms / 1000:.1f}\N{NBSP}s"
    rows: list[list[object]] = [
        [
            join("L2 ", tag("span", found["server"], class_="cb-role")),
            has,
            size(store.get("bytes")),
            left if store["exists"] else NOTHING,
            "" if store["exists"] is not None else store["sentence"],
        ]
    ]
    for each in found["processes"]:
        kind = "a mark of absence" if each["is_absent"] else "a value"
        left_s = each["left_s"]
        rows.append(
            [
                join(
                    "L1 ",
                    each["name"],
                    " ",
                    tag("span", each["role"], class_="cb-role"),
                ),
                kind if each["in_l1"] else "nothing",
                size(each["bytes"]),
                NOTHING if left_s is None else f"{max(0.0, left_s):.1f}\N{NBSP}s",
                each["sentence"],
            ]
        )
    trouble = found["trouble"]
    note = tag("p", trouble, class_="cb-note cb-bad") if trouble else None
    header = ("where", "has", "size", "left", "why")
    name = tag("p", "Full key: ", tag("code", found["key"]), role="status")
    return join(name, note, table("cb-found", "Where the key is", header, rows))


# -- switches --------------------------------------------------------------------------


def _switches(place: Place, names: Iterable[str]) -> Html:
    rows = []
    for name in names:
        buttons = [
            tag(
                "button", verb.button, type="submit", name="verb", value=each,
                class_="cb-button cb-danger" if verb.is_danger else "cb-button",
                aria_label=f"{verb.button}: {name}",
            )
            for each, verb in VERBS.items()
        ]  # fmt: skip
        hidden = tag("input", type="hidden", name="cache", value=name)
        form = tag(
            "form", place.guard, hidden, *buttons, method="post", action=place.act,
            class_="cb-row",
        )  # fmt: skip
        rows.append((name, form))
    return join(
        tag("p", "L1 is switched for all caches on one server. Each asks first."),
        table("cb-switches", "Switches", ("cache", "what to do"), rows),
    )


def question_of(place: Place, verb: str, cache: str, server: str) -> Html:
    """Return the question before a switch is thrown, with both answers."""
    text = VERBS[verb].question.format(cache=cache, server=server)
    hidden = {"cache": cache, "verb": verb, "sure": "yes"}
    look = "cb-button cb-danger" if VERBS[verb].is_danger else "cb-button"
    form = tag(
        "form",
        place.guard,
        *[tag("input", type="hidden", name=n, value=v) for n, v in hidden.items()],
        tag("button", f"Yes: {VERBS[verb].button}", type="submit", class_=look),
        " ",
        tag("a", "No, go back", href=place.page, class_="cb-button cb-quiet"),
        method="post",
        action=place.act,
        class_="cb-row",
    )
    return tag(
        "div", tag("p", text, class_="cb-question"), form, class_="cb", lang="en"
    )


def document(title: str, content: Html, style: str, script: str) -> Html:
    """Return a whole page, for sites without a frame of their own."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href=style),
        tag("script", src=script, defer=True),
    )
    main = tag("main", tag("h1", title), content)
    body = tag("body", main, class_="cb-alone")
    return join(Html("<!doctype html>"), tag("html", head, body, lang="en"))
