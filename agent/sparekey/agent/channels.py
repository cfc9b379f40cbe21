"""The connection to the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from sparekey.runtime.startup import Address, StartupRefused
from sparekey.wire.serving import CHANNEL_OPTIONS

ChannelFactory = Callable[[Address], grpc.aio.Channel]
"""Makes a channel, which then belongs to the agent: the agent closes it."""

_OWN_OPTIONS: Sequence[tuple[str, Any]] = (
    # The agents of a simulation would otherwise share one connection, its limits and its fate.
    ("grpc.use_local_subchannel_pool", 1),
    # When to try again is the agent's own decision; the core would wait up to two minutes more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(server: Address) -> grpc.aio.Channel:
    """A channel of its own to the server.

    Raises:
        StartupRefused: the address is not on this machine, and there is no encryption yet.
    """
    require_loopback(server)
    return grpc.aio.insecure_channel(str(server), options=[*CHANNEL_OPTIONS, *_OWN_OPTIONS])


def open_encrypted_channel(
    server: Address, root: bytes, identity: bytes | None
) -> grpc.aio.Channel:
    """A channel of its own to the server, over TLS.

    Args:
        server: Where the server is.
        root: In PEM, by whom the server must be known.
        identity: In PEM, the agent's certificates and its private key; None if it has none yet.
    """
    credentials = grpc.ssl_channel_credentials(root, identity, identity)
    options = [*CHANNEL_OPTIONS, *_OWN_OPTIONS]
    return grpc.aio.secure_channel(str(server), credentials, options=options)


def require_loopback(server: Address) -> None:
    """Refuse to send keys in the clear over a network.

    Raises:
        StartupRefused: the address is not on this machine.
    """
    if not server.is_loopback:
        raise StartupRefused(
            f"will not connect to {server} without encryption; name the server's authority with"
            " --ca-file, or use a loopback address"
        )
