"""The way to the activation server: only this server contacts it, never an SVM (R48, R49)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import grpc
import grpc.aio
import structlog

from sparekey.activation.v1 import activation_pb2, activation_pb2_grpc
from sparekey.licensing.activation_codes import redact
from sparekey.runtime.startup import Address
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.serving import CHANNEL_OPTIONS
from sparekey.wire.timestamps import from_duration

_log = structlog.get_logger()

CONTACT_DEADLINE_SECONDS = 10.0
"""How long one contact may take (R88)."""

_MAX_SERIALS = 1000

_VERDICTS = {
    activation_pb2.VERDICT_NOT_FOUND: (
        error_pb2.ERROR_REASON_CODE_NOT_FOUND,
        "the activation server does not know this code or key; check it",
    ),
    activation_pb2.VERDICT_BLOCKED: (
        error_pb2.ERROR_REASON_CODE_BLOCKED,
        "the activation server has blocked this code or key; ask your vendor",
    ),
    activation_pb2.VERDICT_EXPIRED: (
        error_pb2.ERROR_REASON_CODE_EXPIRED,
        "this code can no longer be redeemed, or its key has no successor; get a new one",
    ),
    activation_pb2.VERDICT_ACTIVATION_LIMIT: (
        error_pb2.ERROR_REASON_ACTIVATION_LIMIT,
        "this code has been redeemed as often as it may be; get a new one",
    ),
    activation_pb2.VERDICT_TRIAL_USED: (
        error_pb2.ERROR_REASON_TRIAL_USED,
        "this installation has had its trial; use a commercial code",
    ),
    activation_pb2.VERDICT_WRONG_PRODUCT: (
        error_pb2.ERROR_REASON_WRONG_PRODUCT,
        "this code is for another product; check it",
    ),
}


class ActivationClient:
    """Talks to the activation server on behalf of this installation.

    Every method raises CallRefused: ACTIVATION_SERVER_UNAVAILABLE where it cannot
    be reached, or the reason of its verdict.
    """

    def __init__(self, address: Address | None, installation_id: str) -> None:
        self._installation_id = installation_id
        self._address = address
        self._channel = (
            None
            if address is None
            else grpc.aio.insecure_channel(str(address), options=CHANNEL_OPTIONS)
        )
        self._stub: activation_pb2_grpc.ActivationServiceAsyncStub | None = (
            None
            if self._channel is None
            else activation_pb2_grpc.ActivationServiceStub(self._channel)
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def redeem(self, code: str, *, validate_only: bool) -> bytes:
        """Exchange a well-formed activation code for a signed key file."""
        request = activation_pb2.RedeemCodeRequest(
            code=code, installation_id=self._installation_id, validate_only=validate_only
        )
        try:
            response = await self._ready().RedeemCode(request, timeout=CONTACT_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.warning("a code was not redeemed", code=redact(code), status=error.code().name)
            raise self._unavailable() from None
        _check(response.verdict)
        return response.key_file

    async def renew(self, serial: str) -> bytes:
        """Ask, once, for the successor of a key that came by a code (R16, R88)."""
        request = activation_pb2.RenewKeyRequest(
            serial=serial, installation_id=self._installation_id
        )
        try:
            response = await self._ready().RenewKey(request, timeout=CONTACT_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.warning("a key was not renewed", serial=serial, status=error.code().name)
            raise self._unavailable() from None
        _check(response.verdict)
        return response.key_file

    async def blocked(self, serials: Sequence[str]) -> dict[str, timedelta | None]:
        """Which of the keys are blocked (R72), and for how long each still works (R95).

        None leaves that to the rules.
        """
        found: dict[str, timedelta | None] = {}
        for start in range(0, len(serials), _MAX_SERIALS):
            request = activation_pb2.CheckKeysRequest(
                serials=serials[start : start + _MAX_SERIALS],
                installation_id=self._installation_id,
            )
            try:
                response = await self._ready().CheckKeys(request, timeout=CONTACT_DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                _log.warning("keys were not checked", status=error.code().name)
                raise self._unavailable() from None
            for check in response.checks:
                if check.verdict == activation_pb2.VERDICT_BLOCKED:
                    told = check.HasField("block_grace")
                    found[check.serial] = from_duration(check.block_grace) if told else None
        return found

    async def subscription(self, serial: str) -> activation_pb2.Subscription:
        """How the subscription behind a key stands (R60)."""
        request = activation_pb2.GetSubscriptionRequest(
            serial=serial, installation_id=self._installation_id
        )
        try:
            response = await self._ready().GetSubscription(
                request, timeout=CONTACT_DEADLINE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            _log.warning("a subscription was not read", serial=serial, status=error.code().name)
            raise self._unavailable() from None
        _check(response.verdict)
        return response.subscription

    def _ready(self) -> activation_pb2_grpc.ActivationServiceAsyncStub:
        if self._stub is None:
            raise CallRefused(
                error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE,
                "this server was started without --activation-server, so codes cannot be used;"
                " add a key file, or start it with that option",
            )
        return self._stub

    def _unavailable(self) -> CallRefused:
        return CallRefused(
            error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE,
            f"the activation server at {self._address} did not answer; nothing was changed. Try"
            " again when it can be reached",
        )


def _check(verdict: activation_pb2.Verdict.ValueType) -> None:
    if verdict == activation_pb2.VERDICT_OK:
        return
    reason, message = _VERDICTS.get(
        verdict,
        (
            error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE,
            "the activation server gave a verdict that this release does not know; update it",
        ),
    )
    raise CallRefused(reason, message)
