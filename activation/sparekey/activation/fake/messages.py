"""The fake's values as messages of its two contracts."""

from typing import TypeAlias

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.fake.faults import FaultKind
from sparekey.activation.fake.journal import JournaledCall
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState
from sparekey.activation.fake.verdicts import Verdict
from sparekey.activation.v1 import activation_pb2
from sparekey.wire.timestamps import to_duration, to_timestamp

Answer: TypeAlias = (
    activation_pb2.RedeemCodeResponse
    | activation_pb2.RenewKeyResponse
    | activation_pb2.CheckKeysResponse
    | activation_pb2.GetSubscriptionResponse
)
"""What ActivationService answers with."""

VERDICTS = {verdict: activation_pb2.Verdict.Value(f"VERDICT_{verdict.name}") for verdict in Verdict}
VERDICTS_READ = {number: verdict for verdict, number in VERDICTS.items()}
STATES = {
    state: activation_pb2.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{state.name}")
    for state in SubscriptionState
}
STATES_READ = {number: state for state, number in STATES.items()}
FAULT_KINDS = {kind: control_pb2.FaultKind.Value(f"FAULT_KIND_{kind.name}") for kind in FaultKind}
FAULT_KINDS_READ = {number: kind for kind, number in FAULT_KINDS.items()}


def subscription_message(
    serial: str, subscription: Subscription, state: SubscriptionState
) -> activation_pb2.Subscription:
    """A subscription under the serial that was asked about, in the state of the moment."""
    return activation_pb2.Subscription(
        serial=serial,
        state=STATES[state],
        ends_at=to_timestamp(subscription.ends_at),
        grace=to_duration(subscription.grace),
        stops_protection=subscription.stops_protection,
        provider_url=subscription.provider_url,
    )


def call_message(call: JournaledCall) -> control_pb2.Call:
    """A call of the journal."""
    return control_pb2.Call(
        number=call.number,
        called_at=to_timestamp(call.called_at),
        method=call.method,
        installation_id=call.installation_id,
        serials=call.asked or ([call.issued] if call.issued else []),
        code_ending=call.code_ending,
        verdict=VERDICTS[call.verdict] if call.verdict else activation_pb2.VERDICT_UNSPECIFIED,
        fault=FAULT_KINDS[call.fault] if call.fault else control_pb2.FAULT_KIND_UNSPECIFIED,
    )


def verdict_of(answer: Answer) -> Verdict | None:
    """The verdict of an answer; of one with several the first that is not OK."""
    if not isinstance(answer, activation_pb2.CheckKeysResponse):
        return VERDICTS_READ.get(answer.verdict)
    verdicts = [VERDICTS_READ.get(check.verdict) for check in answer.checks]
    return next((verdict for verdict in verdicts if verdict is not Verdict.OK), Verdict.OK)
