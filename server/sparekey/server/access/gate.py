"""The gate: who calls, by certificate or token, and whether the role table lets them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

import grpc.aio
from cryptography import x509

from sparekey.certificates.authority import serial_text
from sparekey.certificates.identity import SvmIdentity, parse_identity
from sparekey.runtime.clock import Clock
from sparekey.server.access.book import AccessBook, secret_digest
from sparekey.server.access.limits import Allowance, Limits, OpenStreams, Turns
from sparekey.server.access.refusals import certificate_revoked, svm_banned
from sparekey.server.access.roles import BY_CLUSTER, ROLES
from sparekey.v1 import error_pb2
from sparekey.wire.callers import LOCAL_CALLER, Caller, Role
from sparekey.wire.errors import CallRefused

ANYONE = Caller("anyone", Role.ANYONE)
_NAMELESS = Caller("", Role.ANYONE)
_TLS = b"TLSv1.3"
_MOST_CERTIFICATES = 20_000
_SHOW = (
    "show a client certificate, or an operator's token as metadata `authorization: Bearer TOKEN`"
)


class AccessGate:
    """Lets callers in by the role table.

    Args:
        book: Tokens, revocations and bans.
        clock: The server's time, by which tokens end.
        certificate_time: The machine's time in seconds since 1970, by which certificates end.
        limits: What one caller may use.
        monotonic: Time that only goes on, in seconds, for the limits.
        encrypted: Whether calls come over TLS; else every caller without a token is the local
            operator, and the server listens on loopback only.
        roles: The role that each method needs.
    """

    def __init__(
        self,
        book: AccessBook,
        clock: Clock,
        *,
        certificate_time: Callable[[], float],
        monotonic: Callable[[], float],
        encrypted: bool,
        limits: Limits | None = None,
        roles: Mapping[str, Role] = ROLES,
    ) -> None:
        self.limits = limits or Limits()
        self._book = book
        self._clock = clock
        self._certificate_time = certificate_time
        self._encrypted = encrypted
        self._roles = roles
        self._calls = Allowance(self.limits.calls_per_second, self.limits.call_burst, monotonic)
        self._agent_calls = Allowance(
            self.limits.agent_calls_per_second, self.limits.agent_call_burst, monotonic
        )
        self._refusals = Allowance(
            self.limits.refusals_per_second, self.limits.refusal_burst, monotonic
        )
        self._turns = Turns(self.limits.turn_patience_seconds, monotonic)
        self._streams = OpenStreams()
        self._by_certificate: OrderedDict[bytes, Caller] = OrderedDict()

    def admit(self, method: str, context: grpc.aio.ServicerContext[Any, Any], size: int) -> Caller:
        """Who calls, with a request of so many bytes.

        Raises:
            CallRefused: the caller is not known or not allowed, or calls too often.
        """
        needed = self._roles.get(method)
        if needed is Role.ANYONE:
            return ANYONE
        caller = self._identify(context)
        if needed is None or not caller.may(needed):
            needs = "a role of its own" if needed is None else f"the role {needed.name.lower()}"
            raise CallRefused(
                error_pb2.ERROR_REASON_PERMISSION_DENIED,
                f"this call needs {needs} and {caller.name} has the role"
                f" {caller.role.name.lower()}; ask an admin",
                metadata={"role": caller.role.name},
            )
        if caller.clusters and needed is not Role.VIEWER and method not in BY_CLUSTER:
            raise CallRefused(
                error_pb2.ERROR_REASON_PERMISSION_DENIED,
                f"the token of {caller.name} is for SVMs of some clusters, and this call is not"
                " about SVMs alone; ask an admin",
                metadata={"clusters": ",".join(caller.clusters)},
            )
        if caller.role is Role.AGENT:
            self._agent_calls.use(caller.name, "calls")
        elif not caller.is_local:
            self._calls.use(caller.name, "calls", 1 + size // self.limits.call_bytes)
        return caller

    async def hold_refused(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Let who is refused all the time wait for each further refusal.

        A client that calls again at once after each refusal would else cost the others more than
        one that is served.
        """
        if not self._encrypted:
            return
        try:
            self._refusals.use(address_of(context.peer()), "refused calls")
        except CallRefused:
            await asyncio.sleep(self.limits.refusal_wait_seconds)

    def turn(self, caller: Caller) -> AbstractAsyncContextManager[None]:
        """Serve a caller's calls that are answered once one after the other."""
        if caller.is_local or caller.role is Role.ANYONE:
            return nullcontext()
        return self._turns.take(caller.name)

    def hold_stream(self, caller: Caller) -> AbstractContextManager[None]:
        """Count a stream of the caller for as long as it is open."""
        if caller.is_local:
            return nullcontext()
        agent = caller.role is Role.AGENT
        most = self.limits.agent_streams if agent else self.limits.operator_streams
        return self._streams.hold(caller.name, most)

    def admit_still(self, caller: Caller) -> None:
        """Look again at a caller whose stream is open.

        Raises:
            CallRefused: what it showed has ended or was taken back meanwhile.
        """
        if not caller.is_local:
            self._refuse_ended(caller)

    def _identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        if self._encrypted:
            connection = context.auth_context()
            if _TLS not in connection.get("ssl_tls_version", ()):
                raise _unauthenticated("this server speaks TLS 1.3 only; use a client that does")
            shown = next(iter(connection.get("x509_pem_cert", ())), None)
            caller = self._of_certificate(shown) if shown else _NAMELESS
            if caller is not _NAMELESS:
                self._refuse_ended(caller)
                return caller
        secret = _bearer(context)
        if secret is not None:
            return self._of_token(secret)
        if not self._encrypted:
            return LOCAL_CALLER
        raise _unauthenticated(f"this call needs to know who calls; {_SHOW}")

    def _of_token(self, secret: str) -> Caller:
        record = self._book.tokens.get(secret_digest(secret))
        if record is None:
            raise _unauthenticated(
                "the token is not known or was revoked; ask an admin for another"
            )
        if record.expires_at <= self._clock.now():
            raise _unauthenticated("the token is over; ask an admin for another")
        return Caller(
            record.name,
            Role[record.role],
            token_id=record.token_id,
            expires_at=record.expires_at.timestamp(),
            clusters=record.clusters,
        )

    def _of_certificate(self, pem: bytes) -> Caller:
        known = self._by_certificate.get(pem)
        if known is None:
            known = _read_certificate(pem)
            self._by_certificate[pem] = known
            if len(self._by_certificate) > _MOST_CERTIFICATES:
                self._by_certificate.popitem(last=False)
        return known

    def _refuse_ended(self, caller: Caller) -> None:
        if caller.token_id:
            over = (caller.expires_at or 0) <= self._clock.now().timestamp()
            if over or caller.token_id not in self._book.token_ids:
                raise _unauthenticated("the token is over or was revoked; ask an admin for another")
            return
        if caller.certificate_serial in self._book.revoked:
            raise certificate_revoked()
        if caller.svm_id is not None and caller.svm_id in self._book.banned:
            raise svm_banned(caller.svm_id)
        # The handshake has looked too, but a connection can outlast its certificate.
        if (caller.expires_at or 0) <= self._certificate_time():
            raise _unauthenticated("the certificate is over; renew it and connect again")


def _read_certificate(pem: bytes) -> Caller:
    """Who a certificate is; the handshake has proved that it is valid."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _NAMELESS
    identity = parse_identity(names.get_values_for_type(x509.UniformResourceIdentifier))
    if identity is None:
        return _NAMELESS
    serial = serial_text(certificate.serial_number)
    ends = certificate.not_valid_after_utc.timestamp()
    if isinstance(identity, SvmIdentity):
        return Caller(
            f"svm/{identity.svm_id}",
            Role.AGENT,
            svm_id=identity.svm_id,
            certificate_serial=serial,
            expires_at=ends,
        )
    role = Role[identity.role.upper()]
    return Caller(identity.name, role, certificate_serial=serial, expires_at=ends)


def address_of(peer: str) -> str:
    """A peer's address without its port: `ipv4:127.0.0.1:40312` is `ipv4:127.0.0.1`."""
    return peer.rpartition(":")[0] or peer


def _bearer(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode("latin-1")
            scheme, _, secret = text.partition(" ")
            if scheme.lower() != "bearer" or not secret.strip():
                raise _unauthenticated(f"the authorization is not a bearer token; {_SHOW}")
            return secret.strip()
    return None


def _unauthenticated(message: str) -> CallRefused:
    return CallRefused(error_pb2.ERROR_REASON_UNAUTHENTICATED, message)
