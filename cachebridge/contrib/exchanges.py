"""What tools for traces tell of an exchange with L2, in the words of the convention."""

from __future__ import annotations

from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from cachebridge.l2.redis import scripts

_SCRIPTS: Final = {
    script.sha: name.lower()
    for name, script in vars(scripts).items()
    if hasattr(script, "sha")
}


@cache
def server_of(label: str) -> dict[str, str | int]:
    """Return what the convention says of a server."""
    url = urlsplit(label.partition(",")[0])
    is_memcached = url.scheme.startswith("memcached")
    found: dict[str, str | int] = {
        "db.system.name": "memcached" if is_memcached else "redis"
    }
    if url.hostname or url.path:
        found["server.address"] = url.hostname or url.path
    try:
        port = url.port
    except ValueError:
        port = None
    if port:
        found["server.port"] = port
    if not is_memcached and url.hostname:
        found["db.namespace"] = url.path.strip("/") or "0"
    return found


def operation_of(request: Any) -> str:
    """Return the command, with the name of its script: "GET", "EVALSHA store"."""
    packed: bytes = request.packed
    if not packed.startswith(b"*"):
        return packed[:2].decode("ascii", "replace")
    words = packed.split(b"\r\n", 3)
    command = words[2].decode("ascii", "replace").upper()
    script = getattr(request, "script", None)
    name = "" if script is None else _SCRIPTS.get(script.sha, "")
    return f"{command} {name}" if name else command
