"""Ports of the loopback interface that stay free while no server listens on them.

Never uses the ephemeral range: the kernel hands those ports to outgoing connections,
so a client that keeps dialling a dead port there can be given that very port, connect
to itself and keep the server from coming back.
"""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["LOOPBACK", "free_port"]

LOOPBACK: Final = "127.0.0.1"
# Below the first ephemeral port of Linux (32768), macOS and the BSDs (49152).
_PORTS: Final = range(20_000, 32_000)
_ATTEMPTS: Final = 200
_choice = random.SystemRandom().choice


def free_port() -> int:
    """Return a loopback TCP port that is free at the moment of the call."""
    for _ in range(_ATTEMPTS):
        port = _choice(_PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop - 1}")
