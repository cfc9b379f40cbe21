"""Which SVMs hold a key: the details of the usage report."""

from __future__ import annotations

from sqlalchemy import Connection

from sparekey.server.store.keys import load_keys
from sparekey.server.store.situations import page_of_holders
from sparekey.server.store.svms import load_svms
from sparekey.v1 import error_pb2, report_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import guest_mix_message, held_key_message


def answer_holders(
    connection: Connection, serial: str, after: str, size: int
) -> list[report_pb2.KeyHolder]:
    """A page of the SVMs that hold a key, by id.

    Raises:
        CallRefused: neither the storage nor an SVM has the key.
    """
    page = page_of_holders(connection, serial, after, size)
    if not page and not after and not load_keys(connection, [serial]):
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_NOT_FOUND,
            f"neither the key storage nor an SVM has the key {serial}; list the keys to see theirs",
            metadata={"serial": serial},
        )
    svms = load_svms(connection, [svm_id for svm_id, _ in page])
    return [
        report_pb2.KeyHolder(
            svm_id=svm_id,
            cluster=svms[svm_id].cluster,
            held_key=held_key_message(slot, held),
            guests=guest_mix_message(svms[svm_id].guests),
        )
        for svm_id, role in page
        for slot, held in svms[svm_id].keyring.slots.items()
        if held.key.serial == serial and slot.role is role
    ]
