"""ActivationService: what a license server may ask of an activation server."""

from collections.abc import Sequence

from sparekey.activation.fake.answering import answer
from sparekey.activation.fake.journal import JournaledCall
from sparekey.activation.fake.messages import VERDICTS, subscription_message
from sparekey.activation.fake.requests import installation_violations, refuse
from sparekey.activation.fake.state import FakeState
from sparekey.activation.v1.activation_pb2 import (
    CheckKeysRequest,
    CheckKeysResponse,
    GetSubscriptionRequest,
    GetSubscriptionResponse,
    KeyCheck,
    RedeemCodeRequest,
    RedeemCodeResponse,
    RenewKeyRequest,
    RenewKeyResponse,
)
from sparekey.licensing.activation_codes import CODE_PATTERN
from sparekey.v1 import error_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused, FieldViolation
from sparekey.wire.timestamps import to_duration, to_timestamp

_ENDING = 5


class ActivationService:
    """Answers from the catalogue, as the faults allow. Any client may call.

    Args:
        state: The fake's state.
    """

    def __init__(self, state: FakeState) -> None:
        self._state = state

    async def redeem_code(self, request: RedeemCodeRequest, call: Call) -> RedeemCodeResponse:
        """Exchange a code for a key (R47, R48, R53, R97).

        A code that is not in its plain form is refused with MALFORMED_ACTIVATION_CODE, not
        mended: a license server is to check and normalize it before it asks (R79).
        """
        # Entered first, so that a test sees that a license server sent what it should not.
        entry = self._enter("RedeemCode", request.installation_id)
        _require_plain(request.code)
        entry.code_ending = request.code[-_ENDING:]

        def carry_out() -> RedeemCodeResponse:
            catalogue = self._state.catalogue
            grant = catalogue.redeem(
                request.code,
                request.installation_id,
                self._state.clock.now(),
                preview=request.validate_only,
            )
            if not request.validate_only:
                self._state.save()
                entry.issued = grant.serial
            return RedeemCodeResponse(verdict=VERDICTS[grant.verdict], key_file=grant.key_file)

        return await answer(self._state, entry, call, carry_out)

    async def renew_key(self, request: RenewKeyRequest, call: Call) -> RenewKeyResponse:
        """Give the successor of a key that came by a code (R16)."""
        entry = self._enter("RenewKey", request.installation_id, [request.serial])

        def carry_out() -> RenewKeyResponse:
            grant = self._state.catalogue.renew(
                request.serial, request.installation_id, self._state.clock.now()
            )
            self._state.save()
            return RenewKeyResponse(verdict=VERDICTS[grant.verdict], key_file=grant.key_file)

        return await answer(self._state, entry, call, carry_out)

    async def check_keys(self, request: CheckKeysRequest, call: Call) -> CheckKeysResponse:
        """Say of each key whether it is blocked (R72), in the order asked."""
        entry = self._enter("CheckKeys", request.installation_id, request.serials)
        return await answer(
            self._state,
            entry,
            call,
            lambda: CheckKeysResponse(checks=[self._check(serial) for serial in request.serials]),
        )

    async def get_subscription(
        self, request: GetSubscriptionRequest, call: Call
    ) -> GetSubscriptionResponse:
        """Read the subscription behind a key as it stands by the fake's clock (R60, R96)."""
        entry = self._enter("GetSubscription", request.installation_id, [request.serial])
        return await answer(
            self._state, entry, call, lambda: self._subscription_answer(request.serial)
        )

    def _enter(
        self, method: str, installation_id: str, serials: Sequence[str] = ()
    ) -> JournaledCall:
        refuse(installation_violations(installation_id))
        return self._state.journal.enter(
            self._state.clock.now(), method, installation_id, asked=serials
        )

    def _check(self, serial: str) -> KeyCheck:
        verdict, blocked_at = self._state.catalogue.check(serial)
        grace = self._state.catalogue.block_grace(serial)
        return KeyCheck(
            serial=serial,
            verdict=VERDICTS[verdict],
            blocked_at=to_timestamp(blocked_at),
            block_grace=None if grace is None else to_duration(grace),
        )

    def _subscription_answer(self, serial: str) -> GetSubscriptionResponse:
        verdict, subscription = self._state.catalogue.subscription(serial)
        if subscription is None:
            return GetSubscriptionResponse(verdict=VERDICTS[verdict])
        state = subscription.state_at(self._state.clock.now())
        return GetSubscriptionResponse(
            verdict=VERDICTS[verdict],
            subscription=subscription_message(serial, subscription, state),
        )


def _require_plain(code: str) -> None:
    if not CODE_PATTERN.match(code):
        problem = "must be four hyphenated groups of five upper-case Latin letters or digits"
        raise CallRefused(
            error_pb2.ERROR_REASON_MALFORMED_ACTIVATION_CODE,
            f"code {problem}",
            violations=[FieldViolation("code", problem)],
        )
