"""``doctor``: twenty checks in order, each with what to do about a finding."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from cachebridge.commands.asking import differences, engine_of
from cachebridge.commands.facts import Facts, questions_of
from cachebridge.commands.report import DONE, FINDING, NOT_DONE, Report, Table
from cachebridge.commands.telling import name_of
from cachebridge.config import DEFAULT_EXCLUDE
from cachebridge.engine.fleet.asking import ask_fleet, loop_back
from cachebridge.engine.fleet.channel import server_of
from cachebridge.errors import CacheBridgeError
from cachebridge.resp import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cachebridge.engine.admin import AdminMethods

    Answer = dict[str, Any]

OK, BAD, UNKNOWN = "ok", "finding", "not known"
OLDEST: Final = (6, 2)
LEAST_BUFFER: Final = 8 * 1024 * 1024
SLOW_S: Final = 0.01
SLOW_BUS_S: Final = 0.1
MOST_CLOCK_S: Final = 1.0
PINGS: Final = 5


@dataclass
class Patient:
    """What the checks look at: servers, measurements, and what processes answer."""

    engine: Any
    facts: dict[str, Facts] = field(default_factory=dict)
    """What each server says of itself, by its label."""
    times: dict[str, float] = field(default_factory=dict)
    """Seconds of ``ping``, ``bus`` and ``clock``; what could not be measured is not
    there."""
    answers: list[Answer] = field(default_factory=list)
    missing: int = 0
    unasked: str = ""
    """Why processes could not be asked."""

    def said(self, verb: str) -> Iterator[tuple[str, Answer]]:
        """Yield the name of each process, and what it has answered to a verb."""
        for each in self.answers:
            found = each.get(verb)
            if isinstance(found, dict):
                yield name_of(each), found

    def caches(self) -> Iterator[tuple[str, Answer]]:
        """Yield the name of each process, and the options of each of its caches."""
        for name, conf in self.said("conf"):
            caches = conf.get("caches")
            for each in caches if isinstance(caches, list) else ():
                if isinstance(each, dict):
                    yield name, each


Finding = str | None
"""What is wrong; empty if nothing is; None if that cannot be known."""


def doctor(cache: AdminMethods, timeout_s: float) -> Report:
    """Look at the servers, then at the fleet, and report each check."""
    patient = _examine(cache, timeout_s)
    rows, data = [], []
    for number, (name, check, advice) in enumerate(CHECKS, 1):
        found = check(patient)
        state = UNKNOWN if found is None else BAD if found else OK
        told, to_do = (found or "", advice if found else "")
        rows.append((f"{number}", name, state, told, to_do))
        data.append({"check": name, "state": state, "told": told, "to_do": to_do})
    bad = sum(each["state"] == BAD for each in data)
    status = FINDING if bad else DONE
    if patient.facts and all(each.failure for each in patient.facts.values()):
        status = NOT_DONE
    table = Table(("", "check", "state", "what", "what to do"), rows)
    told = f"{bad} of {len(CHECKS)} checks have a finding" if bad else ""
    return Report(status, {"checks": data}, [table], told)


def _examine(cache: AdminMethods, timeout_s: float) -> Patient:
    engine = engine_of(cache)
    patient = Patient(engine)
    for question in questions_of(engine):
        patient.facts[question.label] = question.ask()
    try:
        merged: dict[str, Answer] = {}
        for verb in ("conf", "stats", "health"):
            asked = ask_fleet(engine, verb, timeout_s)
            patient.missing = max(patient.missing, asked.missing)
            for each in asked.answers:
                merged.setdefault(each["who"]["origin"], {}).update(each)
        patient.answers = list(merged.values())
        patient.times["bus"] = loop_back(engine, timeout_s)
        _measure(patient)
    except CacheBridgeError as exc:
        patient.unasked = str(exc)
    except (OSError, LookupError, TypeError, ValueError):
        pass  # a measurement that failed is not known
    return patient


def _measure(patient: Patient) -> None:
    """Measure round trips, and the difference of the clocks."""
    server = server_of(patient.engine.stores)
    link = server.pool.take_oldest() or server.pool.open()
    try:
        trips = []
        for _ in range(PINGS):
            began = time.perf_counter()
            link.exchange(pack(b"PING"), 1)
            trips.append(time.perf_counter() - began)
        patient.times["ping"] = statistics.median(trips)
        before = time.time()
        (now,) = link.exchange(pack(b"TIME"), 1)
        middle = (before + time.time()) / 2
    except BaseException:
        link.close()
        raise
    server.pool.keep(link)
    patient.times["clock"] = abs(int(now[0]) + int(now[1]) / 1e6 - middle)


# -- the servers -----------------------------------------------------------------------


def _each(
    judge: Callable[[Facts], Finding],
) -> Callable[[Patient], Finding]:
    """Make a check of all servers that answer: the first finding counts."""

    def check(patient: Patient) -> Finding:
        asked = {
            label: facts for label, facts in patient.facts.items() if not facts.failure
        }
        found = [(label, judge(facts)) for label, facts in asked.items()]
        for label, told in found:
            if told:
                return f"{label} {told}"
        return None if any(told is None for _, told in found) or not found else ""

    return check


def _reach(patient: Patient) -> Finding:
    away = [f"{label}: {x.failure}" for label, x in patient.facts.items() if x.failure]
    return "; ".join(away)


def _way(patient: Patient) -> Finding:
    for server in patient.engine.stores.servers:
        location, options = server.location, patient.engine.options
        given = {**options.client_kwargs, **location.connection_kwargs}
        hosts = [str(given.get("host", "localhost"))]
        if location.sentinel is not None:
            hosts = [str(host) for host, _ in location.sentinel.servers]
        if "path" in given or all(map(_is_here, hosts)):
            continue
        lacks = [] if location.scheme == "rediss" else ["TLS"]
        is_known = given.get("password") or given.get("ssl_certfile")
        if not is_known and options.credential_provider is None:
            lacks.append("a password")
        if lacks:
            return f"{location.label} is asked without {' and '.join(lacks)}"
    return ""


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _version(facts: Facts) -> Finding:
    if facts.product != "Redis":
        return ""
    if not facts.version:
        return None
    shown = ".".join(map(str, facts.version))
    return f"is version {shown}" if facts.version < OLDEST else ""


def _role(facts: Facts) -> Finding:
    return "is a replica" if facts.role == "replica" else ""


def _mode(facts: Facts) -> Finding:
    return "is in cluster mode" if facts.mode == "cluster" else ""


def _rights(*commands: str) -> Callable[[Facts], Finding]:
    def judge(facts: Facts) -> Finding:
        lacks = [each for each in facts.refused if each.startswith(commands)]
        return f"refuses {', '.join(lacks)}" if lacks else ""

    return judge


def _memory(facts: Facts) -> Finding:
    if facts.product != "Redis" or facts.max_memory == 0:
        return ""
    if facts.eviction_policy is None:
        return None
    is_full = facts.eviction_policy == "noeviction"
    return "refuses writes when it is full (noeviction)" if is_full else ""


def _expiry(patient: Patient) -> Finding:
    policies = [each.eviction_policy or "" for each in patient.facts.values()]
    if not any(each.startswith("volatile-") for each in policies):
        return ""
    lasting = {name for name, each in patient.caches() if each.get("TIMEOUT") is None}
    return f"keys of {', '.join(sorted(lasting))} are never evicted" if lasting else ""


def _buffer(facts: Facts) -> Finding:
    limit = facts.subscriber_limit
    if limit is None:
        return "" if facts.product != "Redis" else None
    is_small = 0 < limit.hard_bytes < LEAST_BUFFER
    return f"gives subscribers {limit.hard_bytes} bytes" if is_small else ""


def _time(name: str, most_s: float) -> Callable[[Patient], Finding]:
    def check(patient: Patient) -> Finding:
        seconds = patient.times.get(name)
        if seconds is None:
            return None
        return f"{1000 * seconds:.1f} ms" if seconds > most_s else ""

    return check


# -- the processes ---------------------------------------------------------------------


def _processes(patient: Patient) -> Finding:
    return patient.unasked or ("" if patient.answers else "no process answers")


def _silent(patient: Patient) -> Finding:
    if patient.unasked:
        return None
    return f"{patient.missing} have not answered in time" if patient.missing else ""


def _releases(patient: Patient) -> Finding:
    known = {str(each["who"].get("version")) for each in patient.answers}
    return f"there are {', '.join(sorted(known))}" if len(known) > 1 else ""


def _options(patient: Patient) -> Finding:
    return ", ".join(differences(patient.answers))


def _of_each(
    verb: str, is_ill: Callable[[Answer], object]
) -> Callable[[Patient], Finding]:
    """Make a check that names the processes of which something holds."""

    def check(patient: Patient) -> Finding:
        if not patient.answers:
            return None
        return ", ".join(name for name, each in patient.said(verb) if is_ill(each))

    return check


def _sessions(patient: Patient) -> Finding:
    if not patient.answers:
        return None
    names = dict.fromkeys(
        name
        for name, each in patient.caches()
        if not {*DEFAULT_EXCLUDE[:2]} <= {*_texts(each.get("L1_EXCLUDE"))}
    )
    return ", ".join(names)


def _texts(value: object) -> Iterable[str]:
    return map(str, value) if isinstance(value, list) else ()


CHECKS: Final[list[tuple[str, Callable[[Patient], Finding], str]]] = [
    (
        "the servers answer",
        _reach,
        "check address, password and certificates; run this where the site runs",
    ),
    (
        "TLS and a login",
        _way,
        "rediss:// with a password or an ACL user, or a unix socket",
    ),
    ("version", _each(_version), "Redis 6.2 or later, or Valkey"),
    (
        "it is a master",
        _each(_role),
        "name the primary, or what follows it at a failover",
    ),
    (
        "cluster mode",
        _each(_mode),
        "redis+cluster:// with some of its nodes (docs/cluster.md)",
    ),
    (
        "right to scripts",
        _each(_rights("EVAL")),
        "ACL SETUSER <user> +eval +evalsha (SECURITY.md)",
    ),
    (
        "right to channels",
        _each(_rights("PUBLISH", "SUBSCRIBE")),
        "ACL SETUSER <user> &cachebridge:* +publish +subscribe",
    ),
    (
        "memory policy",
        _each(_memory),
        "CONFIG SET maxmemory-policy allkeys-lfu, on a server for caches alone",
    ),
    ("keys can be evicted", _expiry, "give the cache a TIMEOUT, or an allkeys- policy"),
    (
        "buffer of subscribers",
        _each(_buffer),
        "CONFIG SET client-output-buffer-limit 'pubsub 33554432 8388608 60'",
    ),
    (
        "round trip",
        _time("ping", SLOW_S),
        "bring the server nearer; L1 hides this for hits alone",
    ),
    (
        "messages come back",
        _time("bus", SLOW_BUS_S),
        "look for slow commands (SLOWLOG GET) and a busy network",
    ),
    (
        "clocks",
        _time("clock", MOST_CLOCK_S),
        "run NTP: delays between hosts are measured by their clocks",
    ),
    (
        "processes listen",
        _processes,
        "they listen after three reads; docs/command-line.md says who cannot be seen",
    ),
    (
        "all of them answer",
        _silent,
        "ask again with --timeout 5; else look for processes that hang",
    ),
    ("one release", _releases, "end the deployment: all processes on one release"),
    ("the same options", _options, "cachebridge conf shows who has which"),
    (
        "L1 is trusted",
        _of_each("stats", lambda each: each.get("trusted") is not True),
        "cachebridge health says why not",
    ),
    (
        "nothing is owed",
        _of_each(
            "health",
            lambda each: (
                each.get("deletes_owed")
                or each.get("messages_owed")
                or each.get("breaker_open")
            ),
        ),
        "the server was away for them: it passes; if not, cachebridge health",
    ),
    (
        "sessions stay out of L1",
        _sessions,
        "put Django's session prefixes back into L1_EXCLUDE",
    ),
]
"""Each check with its name, and what to do about a finding."""
