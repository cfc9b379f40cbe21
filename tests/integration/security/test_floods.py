"""Hostile clients of each kind are refused in words, and the others are served meanwhile.

What they cost the others is measured by `make flood`; here only that they do not stop them.
"""

from __future__ import annotations

from typing import Any

import pytest
from flood.beside import hostile_client

from sparekey.v1 import key_pb2, key_pb2_grpc

from .secure_site import SECONDS, SecureSite


@pytest.mark.parametrize(
    ("kind", "level", "refusal"),
    [
        ("stream_hoarding", "beyond", "LIMIT_EXCEEDED"),
        ("header_flooding", "beyond", "RESOURCE_EXHAUSTED"),
        ("giant_messages", "below", "LIMIT_EXCEEDED"),
        ("giant_messages", "beyond", "MESSAGE_TOO_LARGE"),
        ("giant_messages", "beyond transport", "RESOURCE_EXHAUSTED"),
        ("uninvited", "beyond", "UNAUTHENTICATED"),
    ],
)
def test_a_flood_is_refused_and_others_are_served(
    site: SecureSite, kind: str, level: str, refusal: str
) -> None:
    keys: Any = key_pb2_grpc.KeyServiceStub(site.channel(site.operator("viewer", "good")))
    with hostile_client(site, kind, level) as ended:
        for _ in range(20):
            keys.ListKeys(key_pb2.ListKeysRequest(), timeout=SECONDS)
    assert ended[refusal] > 0
    assert not {"INTERNAL", "UNKNOWN"} & ended.keys(), ended


def test_who_reads_nothing_holds_up_nobody(site: SecureSite) -> None:
    keys: Any = key_pb2_grpc.KeyServiceStub(site.channel(site.operator("viewer", "good")))
    with hostile_client(site, "slow_reading", "below"):
        for _ in range(20):
            keys.ListKeys(key_pb2.ListKeysRequest(), timeout=SECONDS)
