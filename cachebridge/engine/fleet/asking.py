"""Ask every process on a server, and wait for as many answers as were reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.bus.asks import (
    BadFrameError,
    answer_channel,
    ask_channel,
    decode_answer,
    encode_ask,
    new_ask,
)
from cachebridge.bus.subscription import Subscription
from cachebridge.diagnosis import diagnosis
from cachebridge.engine.fleet.channel import publish, server_of, shared_of
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.texts import shown_reply
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine

TICK_S: Final = 0.05
MOST_ANSWERS: Final = 10_000


class Answers(NamedTuple):
    """What a fleet has answered."""

    answers: list[dict[str, Any]]
    """By host and pid; of each process ``who``, and what was asked or ``error``."""
    reached: int | None
    """How many processes heard the question; None where the server cannot tell."""

    @property
    def missing(self) -> int:
        """How many of them have not answered in time."""
        return max(0, (self.reached or 0) - len(self.answers))


def ask_fleet(
    engine: Engine, verb: str, timeout_s: float = 1.0, **arguments: Any
) -> Answers:
    """Ask every process that listens on the engine's server and database.

    Waits until all have answered, at most ``timeout_s`` seconds.  Raises L2Error if the
    server cannot be asked, and UnsupportedOperationError where there are no messages.
    """
    from redis.exceptions import RedisError  # noqa: PLC0415 it takes long to import

    if engine.stores.bus_cluster is not None:
        run(engine.l2.ping())  # then the masters are known
    try:
        return _ask(engine, verb, timeout_s, arguments)
    except L2Error:
        raise
    except (RedisError, OSError) as exc:
        told = shown_reply(f"{type(exc).__name__}: {exc}")
        raise L2UnavailableError(f"{told}{diagnosis(exc)}") from exc


def _ask(
    engine: Engine, verb: str, timeout_s: float, arguments: dict[str, Any]
) -> Answers:
    stores, ask = engine.stores, new_ask(verb, arguments)
    server, shared = server_of(stores), shared_of(stores)
    channel = answer_channel(shared, ask.nonce)
    subscription = Subscription(server.make_connection(), [channel.encode()])
    found: dict[str, dict[str, Any]] = {}
    try:
        arrived = subscription.open(TICK_S)
        reached = publish(server, ask_channel(shared), encode_ask(ask))
        # Replicas, whose subscribers the master does not know, hear it too: those of
        # our own, or of processes whose LOCATION names them.
        expected = None if stores.replicas is not None else reached or None
        until = time.monotonic() + timeout_s
        while True:
            for reply in arrived:
                _add(found, reply, ask.nonce)
            is_all = expected is not None and len(found) >= expected
            if is_all or time.monotonic() >= until:
                break
            arrived = subscription.receive()
    finally:
        subscription.close()
    known = reached if stores.replicas is None and len(found) <= reached else None
    return Answers(sorted(found.values(), key=_order), known)


def loop_back(engine: Engine, timeout_s: float = 1.0) -> float:
    """Return the seconds from publishing a message to its arrival at a subscriber.

    Raises what ``ask_fleet`` does, and TimeoutError, an OSError, if none arrives.
    """
    stores = engine.stores
    server, shared = server_of(stores), shared_of(stores)
    channel = answer_channel(shared, new_ask("", {}).nonce)
    subscription = Subscription(server.make_connection(), [channel.encode()])
    try:
        subscription.open(timeout_s)
        began = time.monotonic()
        publish(server, channel, b"")
        if not subscription.receive():
            raise TimeoutError("no message came back")
        return time.monotonic() - began
    finally:
        subscription.close()


def _add(found: dict[str, dict[str, Any]], reply: Any, nonce: bytes) -> None:
    """Take an answer; pass over what is none, or names no process."""
    try:
        answer = decode_answer(reply[2], nonce)
        origin = str(answer["who"]["origin"])
    except (BadFrameError, LookupError, TypeError):
        return
    if len(found) < MOST_ANSWERS:
        found.setdefault(origin, answer)


def _order(answer: dict[str, Any]) -> tuple[str, str]:
    who = answer["who"]
    return str(who.get("host")), f"{who.get('pid')!s:>10}"
