"""ControlService: scripts the fake. It has a port of its own and asks nobody for a name."""

import structlog

from sparekey.activation.control.v1.control_pb2 import (
    BlockKeyRequest,
    BlockKeyResponse,
    ChangeSubscriptionRequest,
    ChangeSubscriptionResponse,
    DefineCodeRequest,
    DefineCodeResponse,
    GetStatusRequest,
    GetStatusResponse,
    IssueKeyRequest,
    IssueKeyResponse,
    ListCallsRequest,
    ListCallsResponse,
    ResetRequest,
    ResetResponse,
    SetClockRequest,
    SetClockResponse,
    SetFaultsRequest,
    SetFaultsResponse,
)
from sparekey.activation.fake.catalogue import NoSubscription, UnknownKey
from sparekey.activation.fake.messages import VERDICTS_READ, call_message
from sparekey.activation.fake.records import CodeDefinition
from sparekey.activation.fake.requests import (
    clock_violations,
    code_violations,
    read_faults,
    read_properties,
    read_subscription,
    refuse,
)
from sparekey.activation.fake.state import FakeState
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.activation_codes import MalformedActivationCode, parse_activation_code
from sparekey.v1 import error_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused, FieldViolation
from sparekey.wire.timestamps import from_duration, instant_or_none, to_timestamp

_ENDING = 5
_log = structlog.get_logger()


class ControlService:
    """Changes what the fake knows and does; every change is kept before it is answered.

    Args:
        state: The fake's state.
    """

    def __init__(self, state: FakeState) -> None:
        self._state = state

    async def define_code(self, request: DefineCodeRequest, _call: Call) -> DefineCodeResponse:
        """Make a code known, or give a known one another worth."""
        refuse(code_violations(request))
        properties = read_properties(request.key)
        code = _read_code(request.code)
        verdict = VERDICTS_READ.get(request.verdict)
        definition = CodeDefinition(
            ending=code[-_ENDING:],
            properties=properties,
            activation_limit=request.activation_limit or 1,
            renewals=request.renewals,
            redeem_before=instant_or_none(request, "redeem_before"),
            verdict=None if verdict is Verdict.OK else verdict,
        )
        self._state.catalogue.define_code(code, definition)
        self._state.save()
        _log.info("code defined", code_ending=definition.ending)
        return DefineCodeResponse()

    async def issue_key(self, request: IssueKeyRequest, _call: Call) -> IssueKeyResponse:
        """Sign a key file as a vendor would mail it (R31)."""
        properties = read_properties(request.key)
        grant = self._state.catalogue.issue(properties, self._state.clock.now())
        self._state.save()
        _log.info("key issued", serial=grant.serial)
        return IssueKeyResponse(serial=grant.serial, key_file=grant.key_file)

    async def block_key(self, request: BlockKeyRequest, _call: Call) -> BlockKeyResponse:
        """Block a key or lift the block (R72); KEY_NOT_FOUND where the fake did not issue it."""
        try:
            if request.lift:
                self._state.catalogue.lift_block(request.serial)
            else:
                self._state.catalogue.block(
                    request.serial,
                    self._state.clock.now(),
                    from_duration(request.block_grace) if request.HasField("block_grace") else None,
                )
        except UnknownKey:
            raise _not_found(request.serial) from None
        self._state.save()
        _log.info("block lifted" if request.lift else "key blocked", serial=request.serial)
        return BlockKeyResponse()

    async def change_subscription(
        self, request: ChangeSubscriptionRequest, _call: Call
    ) -> ChangeSubscriptionResponse:
        """Make a subscription be as its provider says (R56).

        KEY_NOT_FOUND where the fake did not issue the key; INVALID_FIELD where it is of another
        kind.
        """
        serial = request.subscription.serial
        subscription = read_subscription(request.subscription)
        try:
            self._state.catalogue.change_subscription(serial, subscription)
        except UnknownKey:
            raise _not_found(serial) from None
        except NoSubscription:
            refuse([FieldViolation("subscription.serial", "is of no subscription's key")])
        self._state.save()
        _log.info("subscription changed", serial=serial, state=subscription.state.value)
        return ChangeSubscriptionResponse()

    async def set_faults(self, request: SetFaultsRequest, _call: Call) -> SetFaultsResponse:
        """Replace the faults, those of chaos mode too; none heals everything."""
        faults = read_faults(request)
        self._state.set_faults(faults, request.seed)
        _log.info("faults set", faults=[fault.kind.value for fault in faults], seed=request.seed)
        return SetFaultsResponse()

    async def list_calls(self, request: ListCallsRequest, _call: Call) -> ListCallsResponse:
        """Read the journal; calls that are under way are in it without a verdict."""
        calls = [call_message(entry) for entry in self._state.journal.calls()]
        if request.clear:
            self._state.journal.clear()
        return ListCallsResponse(calls=calls)

    async def get_status(self, _request: GetStatusRequest, _call: Call) -> GetStatusResponse:
        """Read the clock and the public keys."""
        return GetStatusResponse(
            time=to_timestamp(self._state.clock.now()),
            public_keys=self._state.signing.public_keys,
        )

    async def set_clock(self, request: SetClockRequest, _call: Call) -> SetClockResponse:
        """Stand still at an instant, or run again; a restart keeps it."""
        refuse(clock_violations(request))
        instant = instant_or_none(request, "time")
        self._state.set_clock(instant)
        _log.info("clock set", stands_at=None if instant is None else instant.isoformat())
        return SetClockResponse()

    async def reset(self, _request: ResetRequest, _call: Call) -> ResetResponse:
        """Forget codes, keys, faults and the journal; the signing key and the clock stay."""
        self._state.reset()
        _log.info("reset")
        return ResetResponse()


def _read_code(text: str) -> str:
    try:
        return parse_activation_code(text)
    except MalformedActivationCode as error:
        raise CallRefused(
            error_pb2.ERROR_REASON_MALFORMED_ACTIVATION_CODE,
            str(error),
            violations=[FieldViolation("code", "is not an activation code")],
        ) from None


def _not_found(serial: str) -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_KEY_NOT_FOUND,
        f"this activation server issued no key {serial}; copy the serial from its key file",
        metadata={"serial": serial},
    )
