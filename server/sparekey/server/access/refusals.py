"""The refusals of those from whom the right to be here was taken."""

from __future__ import annotations

from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused


def certificate_revoked() -> CallRefused:
    """The refusal of who shows a revoked certificate."""
    return CallRefused(
        error_pb2.ERROR_REASON_CERTIFICATE_REVOKED,
        "the certificate was revoked; enroll anew with a join token for this SVM",
    )


def svm_banned(svm_id: str) -> CallRefused:
    """The refusal of a banned SVM."""
    return CallRefused(
        error_pb2.ERROR_REASON_SVM_BANNED,
        f"the SVM {svm_id} is banned; ask an admin to let it in again",
        metadata={"svm_id": svm_id},
    )
