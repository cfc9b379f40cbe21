"""Instructions of the link as values, and their results as messages."""

from __future__ import annotations

from dataclasses import dataclass

from sparekey.agent.keyring_record import InstructionResult, ResultState
from sparekey.licensing.keyring import Slot
from sparekey.v1 import agent_pb2
from sparekey.wire.licensing_messages import REFUSALS, read_slot, slot_message


@dataclass(frozen=True, slots=True)
class HoldKey:
    """Hold the key of this signed key file."""

    key_file: bytes


@dataclass(frozen=True, slots=True)
class RemoveKey:
    """Remove what the slot holds."""


@dataclass(frozen=True, slots=True)
class BlockKey:
    """The key with this serial is blocked, wherever it is held (R72, R85)."""

    serial: str


@dataclass(frozen=True, slots=True)
class SlotInstruction:
    """One version of what a slot should hold.

    `action` is None where a newer server sent a kind of action that this release does not know.
    """

    slot: Slot
    version: int
    action: HoldKey | RemoveKey | BlockKey | None


_STATES = {
    ResultState.APPLIED: agent_pb2.SLOT_RESULT_STATE_APPLIED,
    ResultState.UNCHANGED: agent_pb2.SLOT_RESULT_STATE_UNCHANGED,
    ResultState.REFUSED: agent_pb2.SLOT_RESULT_STATE_REFUSED,
}


def read_instruction(message: agent_pb2.Instruction) -> SlotInstruction | None:
    """The instruction, or None where its slot is one that this release does not know."""
    slot = read_slot(message.slot)
    if slot is None:
        return None
    action: HoldKey | RemoveKey | BlockKey | None
    match message.WhichOneof("action"):
        case "key_file":
            action = HoldKey(message.key_file)
        case "remove":
            action = RemoveKey()
        case "blocked_serial":
            action = BlockKey(message.blocked_serial)
        case _:
            action = None
    return SlotInstruction(slot, message.version, action)


def result_message(result: InstructionResult) -> agent_pb2.SlotResult:
    """A result as a message."""
    return agent_pb2.SlotResult(
        slot=slot_message(result.slot),
        version=result.version,
        state=_STATES[result.state],
        reason=REFUSALS[result.refusal] if result.refusal else 0,  # type: ignore[arg-type]
    )


def refused_unread(message: agent_pb2.Instruction) -> agent_pb2.SlotResult:
    """The answer to an instruction for an unknown slot: refused, without a reason.

    It is not kept: sent again it is refused again, until a release that knows the slot runs here.
    """
    return agent_pb2.SlotResult(
        slot=message.slot,
        version=message.version,
        state=agent_pb2.SLOT_RESULT_STATE_REFUSED,
    )
