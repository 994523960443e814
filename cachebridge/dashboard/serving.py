"""What the page's addresses answer, whatever the framework."""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.dashboard.collecting import MOST_KEY, Collector, engine_of, look
from cachebridge.dashboard.page import DONE, LATER, VERBS, page_of, question_of
from cachebridge.dashboard.parts import parts_of
from cachebridge.errors import CacheBridgeError
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cachebridge.dashboard.markup import Html
    from cachebridge.dashboard.page import Place
    from cachebridge.engine.admin import AdminMethods

    Caches = Mapping[str, AdminMethods]
    Form = Mapping[str, str]

_log = logging.getLogger("cachebridge.dashboard")

ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript"}
VIEW: Final = "view_cache"
INSPECT: Final = "inspect_key"
CLEAR: Final = "clear_cache"
RIGHTS: Final = (VIEW, INSPECT, CLEAR)
"""What a viewer may do: see the page, ask for keys, throw switches."""


class Outcome(NamedTuple):
    """What a form has led to."""

    status: int
    content: Html | None = None
    """The question before a switch, or the page with what is wrong."""
    done: dict[str, str] | None = None
    """What was done, for the address to go on to."""


class Serving:
    """Serves one page.  Thread safe."""

    def __init__(self) -> None:
        self._collector = Collector()

    def page(self, place: Place, caches: Caches, query: Form) -> Html:
        """Return the page; ``query`` may say what was just done."""
        done, name = DONE.get(query.get("done", ""), ""), query.get("cache", "")
        told = done.format(cache=name) if name in caches else ""
        return page_of(place, self._known(place, caches), done=told)

    def state(self, place: Place, caches: Caches) -> dict[str, Any]:
        """Return what the page shows as plain values, and as HTML by ids."""
        known = self._known(place, caches)
        return {"state": known, "parts": parts_of(known)}

    def key(self, place: Place, caches: Caches, form: Form) -> Html:
        """Return the page with what each level has of a key."""
        name, key = form.get("cache", ""), form.get("key", "")[:MOST_KEY]
        found = look(caches[name], key) if key and name in caches else None
        known = self._known(place, caches)
        return page_of(place, known, key=key, asked=name, found=found)

    def act(self, place: Place, caches: Caches, form: Form, by: str) -> Outcome:
        """Ask whether to throw a switch, or throw it if the form says ``sure``.

        ``by`` names the viewer in the log.
        """
        verb, name = form.get("verb", ""), form.get("cache", "")
        if verb not in VERBS or name not in caches:
            told = f"no such switch or cache; caches are {', '.join(caches)}"
            return Outcome(400, self._with_trouble(place, caches, told))
        server = engine_of(caches[name]).location.label
        if form.get("sure") != "yes":
            return Outcome(200, question_of(place, verb, name, server))
        try:
            done = _throw(caches[name], verb)
        except CacheBridgeError as exc:
            told = f"{VERBS[verb].button} ({name}): this was not done. {exc}"
            return Outcome(503, self._with_trouble(place, caches, told))
        finally:
            self._collector.forget()
        _log.info(
            "%s of %s on %s, by %s",
            verb, name, server, by,
            extra=event("page.switched", location=server, verb=verb, by=by),
        )  # fmt: skip
        return Outcome(303, done={"done": done, "cache": name})

    def _with_trouble(self, place: Place, caches: Caches, told: str) -> Html:
        return page_of(place, self._known(place, caches), trouble=told)

    def _known(self, place: Place, caches: Caches) -> dict[str, Any]:
        return self._collector.collect(caches, with_keys=place.may_inspect)


def _throw(cache: Any, verb: str) -> str:
    """Do it, and return what was done: one of ``DONE``."""
    if verb == "clear":
        return verb if cache.clear() is not False else LATER
    cache.l1_on() if verb == "l1_on" else cache.l1_off()
    return verb


@cache
def asset(name: str) -> tuple[bytes, str]:
    """Return one of ``ASSETS``, and a mark of its content for its address."""
    content = (Path(__file__).parent / "static" / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]


def policy(*sources: str) -> str:
    """Return a strict Content-Security-Policy: nothing inline, nothing from elsewhere.

    ``sources`` are origins that styles, scripts and pictures may come from as well.
    """
    own = " ".join(["'self'", *sources])
    return (
        f"default-src 'none'; script-src {own}; style-src {own}; img-src {own}; "
        f"font-src {own}; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
