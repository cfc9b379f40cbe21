"""Who calls, what their role allows, and the gate that says so."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import grpc.aio

LOCAL_OPERATOR = "operator"
"""Who calls: without certificates every caller on loopback is the operator."""


class Role(IntEnum):
    """What a caller may do. Viewer, operator and admin each include the one before."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3
    AGENT = 10


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: For the history, for example `alice`.
        role: What it may do.
        svm_id: For an agent with a certificate, its SVM; an agent may speak of no other.
        certificate_serial: The certificate that it showed; empty without one.
        token_id: The token that it showed; empty without one.
        expires_at: When what it showed ends, in seconds since 1970; None without an end.
        clusters: The clusters upon whose SVMs alone it may act; empty for all.
        is_local: Whether it calls over loopback without encryption, where everyone may do all.
    """

    name: str
    role: Role
    svm_id: str | None = None
    certificate_serial: str = ""
    token_id: str = ""
    expires_at: float | None = None
    clusters: tuple[str, ...] = ()
    is_local: bool = False

    def may(self, needed: Role) -> bool:
        """Whether this caller may make a call that needs a role."""
        if needed is Role.ANYONE or self.is_local:
            return True
        if Role.AGENT in (needed, self.role):
            return needed is self.role
        return self.role >= needed


LOCAL_CALLER = Caller(LOCAL_OPERATOR, Role.ADMIN, is_local=True)
"""The caller of a server without encryption, which listens on loopback only."""


class Gate(Protocol):
    """Lets calls in or refuses them."""

    def admit(self, method: str, context: grpc.aio.ServicerContext[Any, Any], size: int) -> Caller:
        """Who calls, with a request of so many bytes.

        Raises:
            CallRefused: the caller is not known or not allowed, or calls too often.
        """
        ...

    def turn(self, caller: Caller) -> AbstractAsyncContextManager[None]:
        """Have a call that is answered once wait for its caller's turn."""
        ...

    def hold_stream(self, caller: Caller) -> AbstractContextManager[None]:
        """Count a stream of the caller for as long as it is open.

        Raises:
            CallRefused: the caller has too many open.
        """
        ...

    async def hold_refused(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Let who is refused all the time wait for it; called before each refusal."""
        ...

    def admit_still(self, caller: Caller) -> None:
        """Look again at a caller whose stream is open.

        Raises:
            CallRefused: what it showed has ended or was taken back meanwhile.
        """
        ...


class OpenGate:
    """The gate of a server without encryption: every caller is the local operator."""

    def admit(
        self, _method: str, _context: grpc.aio.ServicerContext[Any, Any], _size: int
    ) -> Caller:
        """The local operator."""
        return LOCAL_CALLER

    def turn(self, _caller: Caller) -> AbstractAsyncContextManager[None]:
        """Let nobody wait."""
        return nullcontext()

    def hold_stream(self, _caller: Caller) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()

    async def hold_refused(self, _context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Let nobody wait."""

    def admit_still(self, _caller: Caller) -> None:
        """Always."""
