"""Where a fleet is asked, and answers: the server of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.bus.settings import HOME, channels_of
from cachebridge.errors import UnsupportedOperationError
from cachebridge.resp import pack

if TYPE_CHECKING:
    from cachebridge.engine.servers.redis_server import RedisServer
    from cachebridge.engine.servers.stores import Stores


def server_of(stores: Stores) -> RedisServer:
    """Return the one server at which every process hears what is asked.

    Of a cluster it is the master that has the switch.  Raises
    UnsupportedOperationError where there is none.
    """
    if stores.bus is not None:
        return stores.bus
    if stores.bus_cluster is not None:
        for server, tag in stores.bus_cluster.sessions().items():
            if tag == HOME:
                return server
    raise UnsupportedOperationError(
        f"{stores.label} has no messages, so no other process can be asked. Over "
        "Memcached set BUS_LOCATION, here as in the processes."
    )


def shared_of(stores: Stores) -> str:
    """Return the name of the shared channel."""
    return channels_of(stores.bus_db, b"").shared


def publish(server: RedisServer, channel: str, frame: bytes) -> int:
    """Publish, and return how many subscribers of this very server it has reached.

    Raises what connecting raises, and the server's refusal.
    """
    link = server.pool.take_oldest() or server.pool.open()
    try:
        reply: Any
        (reply,) = link.exchange(pack(b"PUBLISH", channel.encode(), frame), 1)
    except BaseException:
        link.close()
        raise
    server.pool.keep(link)
    if isinstance(reply, Exception):
        raise reply
    return int(reply)
