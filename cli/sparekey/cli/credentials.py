"""What the command line shows of itself, and by whom it knows the server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from sparekey.certificates.private_files import read_private, read_public
from sparekey.runtime.startup import Address

TOKEN_VARIABLE = "SPAREKEY_TOKEN"  # noqa: S105 - a name, no token


@dataclass(frozen=True)
class Credentials:
    """How to speak to the server.

    Attributes:
        root: In PEM, by whom the server must be known; None to speak without encryption.
        identity: In PEM, a certificate and its private key.
        token: A token.
    """

    root: bytes | None = None
    identity: bytes | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return "Credentials(...)"

    @classmethod
    def read(
        cls, ca_file: Path | None, certificate: Path | None, token_file: Path | None
    ) -> Credentials:
        """Read the files that the options name.

        Raises:
            StartupRefused: a file cannot be read, or others may read a secret.
        """
        if token_file is not None:
            token = read_private(token_file).decode("utf-8", "replace").strip()
        else:
            token = os.environ.get(TOKEN_VARIABLE, "")
        return cls(
            root=None if ca_file is None else read_public(ca_file),
            identity=None if certificate is None else read_private(certificate),
            token=token or None,
        )

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return self.root is not None

    def open_channel(self, address: Address, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
        """A channel to the server."""
        if self.root is None:
            channel = grpc.insecure_channel(str(address), options=options)
        else:
            credentials = grpc.ssl_channel_credentials(self.root, self.identity, self.identity)
            channel = grpc.secure_channel(str(address), credentials, options=options)
        if self.token is None:
            return channel
        return grpc.intercept_channel(channel, _Bearer(self.token))


NO_CREDENTIALS = Credentials()


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends the token with each call; over loopback without encryption too."""

    def __init__(self, token: str) -> None:
        self._metadata = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def _with_token(self, details: Any) -> _Details:
        return _Details(
            details.method,
            details.timeout,
            [*(details.metadata or ()), self._metadata],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any
