"""EnrollmentService: certificates for agents over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from sparekey.certificates.authority import Authority, Issued
from sparekey.certificates.identity import SvmIdentity
from sparekey.certificates.keys import InvalidRequest, key_digest, read_request
from sparekey.server.access.book import secret_digest
from sparekey.server.access.certificates import Enrollment, enroll
from sparekey.server.access.gate import address_of
from sparekey.server.access.limits import Allowance, Limits
from sparekey.server.store.writer import Writer
from sparekey.v1 import enrollment_pb2, error_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_timestamp


class EnrollmentServicer:
    """Serves `sparekey.v1.EnrollmentService`.

    Args:
        writer: Where certificates are written down.
        authority: What issues them; None where another PKI does.
        lifetime: How long a certificate lasts.
        limits: How often an address may fail.
        monotonic: Time that only goes on, in seconds.
    """

    def __init__(
        self,
        writer: Writer,
        authority: Authority | None,
        lifetime: timedelta,
        limits: Limits,
        monotonic: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._authority = authority
        self._lifetime = lifetime
        per_minute = limits.failures_per_minute
        self._attempts = Allowance(per_minute / 60, per_minute, monotonic)

    async def enroll(
        self, request: enrollment_pb2.EnrollRequest, call: Call
    ) -> enrollment_pb2.EnrollResponse:
        """Give a new agent its certificate."""
        authority = self._need_authority()
        address = address_of(call.context.peer())
        self._attempts.use(address, "failed enrollments from this address")
        key = _read(request.csr)
        issued = self._issue(authority, key, request.svm_id)
        digest = secret_digest(request.join_token)
        asked = Enrollment(request.svm_id, key_digest(key), issued, digest)
        granted: Issued = await self._writer.write(enroll, asked)
        self._attempts.give_back(address)
        return enrollment_pb2.EnrollResponse(certificate=_message(granted, authority))

    async def renew_certificate(
        self, request: enrollment_pb2.RenewCertificateRequest, call: Call
    ) -> enrollment_pb2.RenewCertificateResponse:
        """Give an agent its next certificate."""
        authority = self._need_authority()
        svm_id = call.caller.svm_id
        if svm_id is None:
            raise _not_offered("without a certificate there is none to renew; enroll first")
        key = _read(request.csr)
        issued = self._issue(authority, key, svm_id)
        serial = call.caller.certificate_serial
        asked = Enrollment(svm_id, key_digest(key), issued, renewed_serial=serial)
        granted: Issued = await self._writer.write(enroll, asked)
        return enrollment_pb2.RenewCertificateResponse(certificate=_message(granted, authority))

    def _need_authority(self) -> Authority:
        if self._authority is None:
            raise _not_offered(
                "this server issues no certificates; get one from the PKI that it uses, or start"
                " it with --ca"
            )
        return self._authority

    def _issue(self, authority: Authority, key: ec.EllipticCurvePublicKey, svm_id: str) -> Issued:
        return authority.issue(key, SvmIdentity(svm_id), self._lifetime, datetime.now(UTC))


def _read(csr: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return read_request(csr)
    except InvalidRequest as invalid:
        raise CallRefused(
            error_pb2.ERROR_REASON_INVALID_CERTIFICATE_REQUEST,
            f"the certificate request cannot be followed: {invalid}",
        ) from None


def _message(issued: Issued, authority: Authority) -> enrollment_pb2.IssuedCertificate:
    return enrollment_pb2.IssuedCertificate(
        chain=issued.chain.decode("ascii"),
        root=authority.root.decode("ascii"),
        renew_after=to_timestamp(issued.renew_after),
        expires_at=to_timestamp(issued.expires_at),
    )


def _not_offered(message: str) -> CallRefused:
    return CallRefused(error_pb2.ERROR_REASON_NOT_OFFERED, message)
