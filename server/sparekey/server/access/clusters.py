"""The clusters upon whose SVMs a caller may act."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused


def refuse_outside(clusters: Collection[str], svms: Iterable[tuple[str, str]]) -> None:
    """Let a caller act upon SVMs of its clusters only.

    Args:
        clusters: The caller's; empty for all.
        svms: Each SVM's id with its cluster, which is empty for an SVM in none.

    Raises:
        CallRefused: an SVM is in another cluster or in none.
    """
    if not clusters:
        return
    outside = [svm_id for svm_id, cluster in svms if cluster not in clusters]
    if outside:
        shown = ", ".join(outside[:5]) + (", ..." if len(outside) > 5 else "")
        raise CallRefused(
            error_pb2.ERROR_REASON_PERMISSION_DENIED,
            f"the token is for SVMs of {', '.join(sorted(clusters))} only, not for {shown}; name a"
            " scope within, or ask an admin",
            metadata={"svm_ids": ",".join(outside[:100]), "clusters": ",".join(sorted(clusters))},
        )
