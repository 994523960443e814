"""The question where Sentinel's master is now, asked over connections kept for it.

redis-py's ``Sentinel`` is not used, though its filter of states is the one below.  It
believes a sentinel that has not heard of the last failover.  The one that leads a
failover still shows it the old address when the others have left that.  Threads that
share it can lose a sentinel from its list.  And replies have no bounds there.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from redis.connection import SSLConnection, parse_url, to_bool
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError

from cachebridge.config import override_engine_options
from cachebridge.counterparts.fates import settle
from cachebridge.counterparts.redis_settings import REDIS_PY
from cachebridge.errors import ConfigError
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import Location
from cachebridge.l2.redis.client import open_link
from cachebridge.resp import GARBLED, pack
from cachebridge.texts import shown_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.sentinel import Address, SentinelUrl

_DOWN: Final = frozenset({b"s_down", b"o_down"})


class _Answer(NamedTuple):
    epoch: int
    """The number of the failover that has made this server the master."""
    address: Address
    sentinel: _Sentinel


class Sentinels:
    """Tells where the master of one name is.  Thread safe; every method may block.

    Each failover has a number, its epoch, which all sentinels agree on.  So a sentinel
    that has not heard of the last failover is recognised: another is asked.  While a
    failover runs, ``SENTINEL MASTER`` still shows the old address at the sentinel that
    leads it, and ``GET-MASTER-ADDR-BY-NAME`` the new one as soon as that server is
    promoted: both are asked, in one round trip.
    """

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        on_made: Callable[[Connection], object] = lambda _connection: None,
    ) -> None:
        """``on_made`` is given each connection, before it is opened.

        Raises ConfigError for arguments that redis-py refuses.
        """
        url = location.sentinel
        if url is None:
            raise ConfigError(f"LOCATION {location.label!r} names no sentinels.")
        self._url = url
        of_master = {**location.connection_kwargs, **options.client_kwargs}
        arguments, options = settled(url, options, of_master)
        label = f"the sentinels of {url.label}"
        self._order = [
            _Sentinel(
                f"{host}:{port}",
                connection_factory(
                    Location(
                        location.scheme,
                        (),
                        0,
                        label,
                        arguments | {"host": host, "port": port},
                    ),
                    options,
                ),
                on_made,
            )
            for host, port in url.servers
        ]
        self._epoch = -1
        self._told: set[Address] = set()

    def forget(self) -> None:
        """Begin anew without connections, in the child of a fork."""
        self._told = set()
        for sentinel in self._order:
            sentinel.forget()

    def master(self) -> Address:
        """Ask for the address to connect to.

        The sentinel that answered last is asked first; one that is down costs its
        timeouts once.  Raises MasterNotFoundError of redis-py.
        """
        address = self._find(ask_all=False).address
        self._told.add(address)
        return address

    def moved(self) -> tuple[Address, ...]:
        """Ask all sentinels; return the former masters, if there is another now.

        Raises like ``master``.
        """
        address = self._find(ask_all=True).address
        former = tuple(self._told - {address})
        self._told.difference_update(former)
        return former

    def _find(self, *, ask_all: bool) -> _Answer:
        best: _Answer | None = None
        problems = []
        for sentinel in self._order:
            try:
                answer = sentinel.ask(self._url.master)
            except (RedisError, OSError, *GARBLED) as exc:
                problems.append(f"{sentinel.name}: {shown_reply(str(exc))}")
                continue
            if best is None or answer.epoch > best.epoch:
                best = answer
            if best.epoch >= self._epoch and not ask_all:
                break
        if best is None:
            raise MasterNotFoundError(
                f"no sentinel names a master {self._url.master!r} that is up: "
                f"{'; '.join(problems)}"
            )
        self._epoch = best.epoch
        if self._order[0] is not best.sentinel:
            others = [each for each in self._order if each is not best.sentinel]
            self._order = [best.sentinel, *others]
        return best


class _Sentinel:
    """One sentinel, and the connection that the next question uses."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Connection],
        on_made: Callable[[Connection], object],
    ) -> None:
        self.name = name
        self._make = make
        self._on_made = on_made
        self._idle: deque[Link] = deque(maxlen=1)

    def forget(self) -> None:
        """Drop the connection, which is the parent's."""
        self._idle = deque(maxlen=1)

    def ask(self, master: str) -> _Answer:
        """Return its answer.

        Raises RedisError if it names no master that is up, and OSError or one of
        GARBLED if it does not answer as a sentinel does.
        """
        name = master.encode()
        link = self._take()
        try:
            state, found = link.exchange(
                pack(b"SENTINEL", b"MASTER", name)
                + pack(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name),
                2,
            )
        except BaseException:
            link.close()
            raise
        self._idle.append(link)
        for reply in (state, found):
            if isinstance(reply, Exception):
                raise reply
        if not isinstance(state, list) or not isinstance(found, list):
            raise ValueError("not a reply of a sentinel")  # noqa: TRY004 not our caller's
        fields = dict(zip(state[::2], state[1::2], strict=True))
        host, port = found
        flags = set(fields.get(b"flags", b"").split(b","))
        is_promoted = (host, port) != (fields.get(b"ip"), fields.get(b"port"))
        if not is_promoted and (b"master" not in flags or _DOWN & flags):
            shown = b",".join(sorted(flags)).decode(errors="replace")
            raise MasterNotFoundError(f"{host.decode()}:{int(port)} is down ({shown})")
        return _Answer(int(fields[b"config-epoch"]), (host.decode(), int(port)), self)

    def _take(self) -> Link:
        with suppress(IndexError):
            link = self._idle.pop()
            if not link.is_stale():
                return link
            link.close()
        connection = self._make()
        self._on_made(connection)
        return open_link(connection)


def settled(
    url: SentinelUrl, options: EngineOptions, of_master: Mapping[str, Any]
) -> tuple[dict[str, Any], EngineOptions]:
    """Return the arguments and options of the connections to the sentinels.

    TLS is as for the master unless they say otherwise; a login is never the master's.
    """
    problem = ""
    try:
        given: dict[str, Any] = parse_url(f"redis://?{urlencode(url.arguments)}")
    except ValueError as exc:
        problem = f"LOCATION {url.label!r}, for the sentinels: {exc}"
    if problem:
        raise ConfigError(problem)
    given.update(options.sentinel_kwargs)
    has_tls = issubclass(of_master.get("connection_class", object), SSLConnection)
    uses_tls = to_bool(given.pop("ssl", has_tls))
    known = settle(given, REDIS_PY, "SENTINEL_KWARGS")
    arguments = {
        name: of_master[name]
        for name in of_master
        if name.startswith("ssl_") and uses_tls and has_tls
    }
    arguments |= known.unknown | known.arguments
    if uses_tls:
        arguments["connection_class"] = SSLConnection
    options = replace(options, client_kwargs={}, credential_provider=None)
    return arguments, override_engine_options(options, known.options)
