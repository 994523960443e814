"""What a process says of itself: plain JSON values, without secrets and values."""

from __future__ import annotations

import math
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, EXPIRES, KIND, WRITE_ID, size_bytes
from cachebridge.engine.fleet.reasons import why
from cachebridge.engine.fleet.tail import MOST_S, tail
from cachebridge.engine.report import health_of, stats_of
from cachebridge.engine.watching.hot_keys import MOST_HOT, hot_keys
from cachebridge.texts import conceal, hide_password, secrets_in, shown

if TYPE_CHECKING:
    from cachebridge.bus.asks import Ask
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.engine import Engine

Answer = dict[str, Any]

_NAMES_ONLY: Final = frozenset({"client_kwargs", "sentinel_kwargs"})
_STARTED = time.time()
_MOST_TEXT: Final = 1000
_MOST_NAMES: Final = 30_000
"""Characters of all keys in one answer."""


def answer_of(engine: Engine, ask: Ask, *, dropped: int = 0) -> Answer:
    """Return the answer to an ask; an unknown verb gets the list of those there are."""
    who = {**_who(engine), "asks_dropped": dropped}
    give = _VERBS.get(ask.verb)
    if give is None:
        valid = ", ".join(_VERBS)
        return {"who": who, "error": f"unknown verb; this release has {valid}"}
    try:
        answer = {ask.verb: give(engine, ask.arguments), "who": who}
    except (TypeError, ValueError) as exc:
        return {"who": who, "error": shown(f"{type(exc).__name__}: {exc}")}
    secrets = set(secrets_in(_settings(engine)))
    return {
        name: _plain(value, secrets, engine.location.label)
        for name, value in answer.items()
    }


def _who(engine: Engine) -> Answer:
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "role": os.environ.get("CACHEBRIDGE_ROLE") or program,
        "origin": engine.rules.origin.hex(),
        "version": getattr(sys.modules.get("cachebridge"), "__version__", ""),
        "python": platform.python_version(),
        "since": _STARTED,
        "prefixes": sorted(each.own_prefix or "" for each in bindings_of(engine)),
        "location": engine.location.label,
    }


def bindings_of(engine: Engine) -> list[Binding]:
    """Return the caches of the process on this engine, each once."""
    found = [getattr(each, "_binding", None) for each in tuple(engine.listening.users)]
    return list({id(each): each for each in found if each is not None}.values())


def _stats(engine: Engine, _arguments: Answer) -> Answer:
    stats = stats_of(engine)
    delay = stats.invalidation_delay
    return {
        **asdict(stats),
        "l1_hit_ratio": stats.l1_hit_ratio,
        "delay_p50_s": delay.quantile(0.5),
        "delay_p99_s": delay.quantile(0.99),
    }


def _health(engine: Engine, _arguments: Answer) -> Answer:
    health = health_of(engine)
    return {**asdict(health), "ok": health.ok}


def _conf(engine: Engine, _arguments: Answer) -> Answer:
    options = engine.options
    shared: Answer = {
        each.name.upper(): _shown_option(each.name, getattr(options, each.name))
        for each in fields(options)
    }
    caches = [
        {
            each.name.upper(): getattr(binding.options, each.name)
            for each in fields(binding.options)
            if each.repr
        }
        for binding in bindings_of(engine)
    ]
    return {"engine": shared, "caches": sorted(caches, key=repr)}


def _shown_option(name: str, value: Any) -> Any:
    if name in _NAMES_ONLY:
        return sorted(value)
    if name == "bus_location":
        return value and hide_password(value)
    if name == "credential_provider":
        return None if value is None else type(value).__name__
    return value


def _why(engine: Engine, arguments: Answer) -> Answer:
    key = arguments.get("key")
    if not isinstance(key, str):
        raise TypeError("key must be a str")
    code, sentence = why(engine, key, bindings_of(engine))
    entry = engine.l1.look(key)
    if entry is None:
        return {"code": code, "sentence": sentence, "in_l1": False}
    return {
        "code": code,
        "sentence": sentence,
        "in_l1": True,
        "bytes": size_bytes(entry),
        "left_s": entry[EXPIRES] - engine.clock(),
        "is_own_write": bool(entry[WRITE_ID]),
        "is_absent": entry[KIND] is ABSENT,
    }


def _hot(engine: Engine, arguments: Answer) -> Answer:
    """Name the hottest keys, as many as an answer has room for."""
    most = arguments.get("most", 10)
    if not isinstance(most, int) or not 0 < most <= MOST_HOT:
        raise ValueError(f"most must be 1 to {MOST_HOT}")
    found, left = hot_keys(engine, most), _MOST_NAMES
    keys = []
    for each in found["keys"]:
        each["key"] = shown(each["key"], _MOST_TEXT)
        left -= len(ascii(each["key"]))
        if left < 0:
            break
        keys.append(each)
    return {**found, "keys": keys}


def _tail(engine: Engine, arguments: Answer) -> Answer:
    seconds = arguments.get("seconds", 10.0)
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= MOST_S:
        raise ValueError(f"seconds must be more than 0, and {MOST_S:.0f} at most")
    return tail(engine, seconds)


_VERBS: Final[dict[str, Callable[[Engine, Answer], Answer]]] = {
    "who": lambda _engine, _arguments: {},
    "stats": _stats,
    "health": _health,
    "conf": _conf,
    "why": _why,
    "hot": _hot,
    "tail": _tail,
    "history": lambda engine, _arguments: engine.history.columns(),
}


def _settings(engine: Engine) -> Answer:
    """Return all that may hold a secret."""
    location, options = engine.location, engine.options
    return {
        "connection": location.connection_kwargs,
        "client": options.client_kwargs,
        "sentinels": options.sentinel_kwargs,
        "urls": [location.url, options.bus_location or ""],
    }


def _plain(value: Any, secrets: set[str], public: str) -> Any:
    """Return plain JSON, with the secrets taken out of texts."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(k): _plain(v, secrets, public) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each, secrets, public) for each in value]
        case _:
            return shown(conceal(str(value), secrets, public), _MOST_TEXT)
