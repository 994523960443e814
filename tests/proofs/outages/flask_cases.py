"""What is asked of Flask's backend: cachelib's methods, with answers of their own.

``flask_ext.Cache`` inherits the same methods, and hands each call to its backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import MISSING
from tests.proofs.outages.cases import COMMON, NEW, Case, found_in

if TYPE_CHECKING:
    from tests.proofs.outages.cases import Asked

_ELSEWHERE: Final = frozenset({"get", "get_many", "set_many", "incr", "decr"})
"""Methods that others have under the same name, with other answers."""


def _read(asked: Asked, answer: Any) -> str:
    return "`MISSING`" if answer is MISSING else asked.value(answer)


def _bypassing(asked: Asked) -> Any:
    with asked.cache.bypass_l1():
        return asked.cache.get(asked.keys.held)


def _four(asked: Asked) -> tuple[str, ...]:
    keys = asked.keys
    return keys.held, keys.far, keys.none, keys.count


def _listed(asked: Asked, answer: list[Any]) -> str:
    return _found(asked, dict(zip(_four(asked), answer, strict=True)))


def _found(asked: Asked, answer: dict[str, Any]) -> str:
    exist = {key: value for key, value in answer.items() if value is not None}
    return f"{found_in(asked, exist)}, else None"


def _done(asked: Asked, answer: list[str]) -> str:
    return "all keys" if len(answer) == 2 else repr(answer)


def _pending(asked: Asked, answer: list[str]) -> str:
    return _done(asked, answer) + asked.with_pending("", asked.keys.far)[2:]


def _is_alike(case: Case) -> bool:
    return (
        case.method not in _ELSEWHERE
        and "key" not in case.method
        and case.method not in {"__contains__", "bypass_l1"}
        and "TTL over" not in case.row
    )


FLASK_CASES: Final = (
    Case("`get`, in L1", "get", lambda a: a.cache.get(a.keys.held), _read),
    Case("`get`, else", "get", lambda a: a.cache.get(a.keys.far), _read),
    Case(
        "`get` of a session or throttle",
        "get",
        lambda a: a.cache.get(a.keys.excluded),
        _read,
    ),
    Case("`get_many`", "get_many", lambda a: a.cache.get_many(*_four(a)), _listed),
    Case("`get_dict`", "get_dict", lambda a: a.cache.get_dict(*_four(a)), _found),
    Case("`lookup`, else", "lookup", lambda a: a.cache.lookup(a.keys.far), _read),
    Case("`has`, in L1", "has", lambda a: a.cache.has(a.keys.held)),
    Case("`has`, else", "has", lambda a: a.cache.has(a.keys.far)),
    Case("`get` within `bypass_l1()`", "bypass_l1", _bypassing, _read),
    Case(
        "`set`, timeout over",
        "set",
        lambda a: a.cache.set(a.keys.far, NEW, -1),
        lambda a, answer: a.with_pending(answer, a.keys.far),
    ),
    Case(
        "`set_many`",
        "set_many",
        lambda a: a.cache.set_many({a.keys.far: NEW, a.keys.held: NEW}),
        _pending,
    ),
    Case(
        "`touch`, timeout over",
        "touch",
        lambda a: a.cache.touch(a.keys.far, -1),
        lambda a, answer: a.with_pending(answer, a.keys.far),
    ),
    Case("`inc`", "inc", lambda a: a.cache.inc(a.keys.count)),
    Case("`dec`", "dec", lambda a: a.cache.dec(a.keys.count)),
    Case("`inc`, absent", "inc", lambda a: a.cache.inc(a.keys.none), trips=2),
    Case(
        "`delete_many`",
        "delete_many",
        lambda a: a.cache.delete_many(a.keys.far, a.keys.none),
        _pending,
    ),
    Case(
        "`unlink`",
        "unlink",
        lambda a: a.cache.unlink(a.keys.far, a.keys.none),
        lambda a, answer: a.with_pending(answer, a.keys.far),
    ),
    *(case for case in COMMON if _is_alike(case)),
)
