"""Cuts the TCP connection of a call, which gRPC itself offers no way to do."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

_OPEN_FILES = Path("/dev/fd")
_IPV4_IN_IPV6 = "::ffff:"


def cut_connection(peer: str) -> bool:
    """End the connection of this process to a peer, with every call on it; False if not found.

    Args:
        peer: As a gRPC context names it, for example `ipv4:127.0.0.1:41234`.
    """
    wanted = _host_and_port(peer)
    if wanted is None:
        return False
    for entry in _OPEN_FILES.iterdir():
        try:
            # A duplicate, since the number may mean another file by the time it is used.
            descriptor = os.dup(int(entry.name))
        except OSError:
            continue
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            continue
        with socket.socket(fileno=descriptor) as connection:
            if _peer_of(connection) == wanted:
                # Not a close: the core owns its descriptor, sees the end and tidies up itself.
                with suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)
                return True
    return False


def _host_and_port(peer: str) -> tuple[str, int] | None:
    family, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)


def _peer_of(connection: socket.socket) -> tuple[str, int] | None:
    try:
        name = connection.getpeername()
    except OSError:
        return None
    if not isinstance(name, tuple):
        return None
    return name[0].removeprefix(_IPV4_IN_IPV6), name[1]
