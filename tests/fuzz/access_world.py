"""A license server with encryption and an authority: for tokens, certificates and enrollment."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from fuzz.keys_of_vendor import NOW, make_signer
from fuzz.watches import StoreWatch
from fuzz.worlds import TRANSPORT
from sparekey.certificates.authority import Authority, create_authority
from sparekey.certificates.identity import Identity, OperatorIdentity, SvmIdentity
from sparekey.certificates.keys import key_pem, make_request, new_key
from sparekey.licensing.key_files import encode_public_key
from sparekey.runtime.startup import Address
from sparekey.server.access.limits import Limits
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings
from sparekey.v1 import (
    access_pb2,
    access_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)

SERVICES = [
    *enrollment_pb2.DESCRIPTOR.services_by_name.values(),
    *access_pb2.DESCRIPTOR.services_by_name.values(),
]
_MIN_JOIN_TOKENS, _MIN_BOUND_TOKENS, _MIN_TOKENS, _MIN_CERTIFICATES = 24, 4, 6, 4
_LONG = Duration(seconds=30 * 86_400)
_NO_LIMITS = Limits(
    calls_per_second=1e9,
    call_burst=10**9,
    agent_calls_per_second=1e9,
    agent_call_burst=10**9,
    refusals_per_second=1e9,
    refusal_burst=10**9,
    failures_per_minute=1e9,
)
"""Else nearly every input would be refused for coming too fast, and nothing more be seen."""


class AccessWorld:
    """A server that everyone calls over TLS: an admin, an agent, and one who has nothing yet.

    Args:
        folder: For its data.
        randomness: Seeded; keys of certificates are not drawn from it.
        writer_process: Whether a process of its own writes, as in the program.
    """

    def __init__(
        self, folder: Path, randomness: random.Random, *, writer_process: bool = False
    ) -> None:
        self.known: dict[str, Sequence[Any]] = {
            "csr": [make_request(new_key()) for _ in range(60)],
            "name": ["alice", "bob@example", "ci.robot"],
            "page_size": [1, 2, 50, 1000],
            "page_token": [""],
            "svm_id": [f"svm-{number}" for number in range(8)],
        }
        self._folder = folder
        self._writer_process = writer_process
        self._random = randomness
        self._secrets: dict[str, str] = {}
        self._fresh = 0
        self._filled: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        signer = make_signer(self._random)
        vendor_keys = self._folder / "vendor-keys.json"
        vendor_keys.write_text(json.dumps({"vendor": encode_public_key(signer.public_key)}))
        authority = create_authority(self._folder / "ca", "Fuzzing", datetime.now(UTC))
        settings: dict[str, Any] = {
            "data": self._folder / "data",
            "vendor_keys": vendor_keys,
            "listen": "127.0.0.1:0",
            "token_listen": "127.0.0.1:0",
            "ca": self._folder / "ca",
            "test_clock": NOW.isoformat(),
            "writer_process": self._writer_process,
        }
        self._server = LicenseServer(ServerSettings(**settings), _NO_LIMITS)
        await self._server.start()
        main, second = self._server.address, self._server.token_address
        assert second is not None
        self._channels = {
            "RenewCertificate": _open(main, authority, SvmIdentity("svm-agent")),
            "Enroll": _open(second, authority, None),
            "": _open(main, authority, OperatorIdentity("admin", "root")),
        }
        self._access: Any = access_pb2_grpc.AccessServiceStub(self._channels[""])
        self._enrollment: Any = enrollment_pb2_grpc.EnrollmentServiceStub(self._channels["Enroll"])
        self.watch = self._store = StoreWatch(self._folder / "data" / "sparekey.db")
        await self.refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._store.close()
        for channel in self._channels.values():
            await channel.close()
        await self._server.stop()

    def channel(self, method: str) -> grpc.aio.Channel:
        """Of the agent, of one without a certificate, or of the admin."""
        return self._channels.get(method, self._channels[""])

    async def rest(self) -> None:
        """Nothing goes on by itself here."""

    def compose(self, _svm_id: str) -> None:
        """No agent connects here."""

    async def refill(self) -> None:
        """Keep tokens, unspent join tokens and certificates there."""
        if self._filled == self.watch.changes():
            return
        store = self._store
        for svm_id in ["", self.known["svm_id"][0]]:
            least = _MIN_BOUND_TOKENS if svm_id else _MIN_JOIN_TOKENS
            for _ in range(least - len(self._unspent(svm_id))):
                await self._make_join_token(svm_id)
        live = store.column(
            "SELECT count(*) FROM tokens WHERE kind <> 'JOIN' AND revoked_at IS NULL"
        )
        for _ in range(_MIN_TOKENS - live[0]):
            await self._access.CreateToken(
                access_pb2.CreateTokenRequest(name="alice", role=access_pb2.ROLE_VIEWER)
            )
        for _ in range(
            _MIN_CERTIFICATES
            - store.column("SELECT count(*) FROM certificates WHERE revoked_at IS NULL")[0]
        ):
            await self._enroll_one()
        self._name_all()
        self._filled = dict(self.watch.changes())

    async def _make_join_token(self, svm_id: str) -> str:
        """The secret of a new join token, for one SVM or for any."""
        made = await self._access.CreateJoinToken(
            access_pb2.CreateJoinTokenRequest(svm_id=svm_id, lifetime=_LONG)
        )
        self._secrets[made.record.token_id] = made.token
        return str(made.token)

    async def _enroll_one(self) -> None:
        self._fresh += 1
        await self._enrollment.Enroll(
            enrollment_pb2.EnrollRequest(
                join_token=await self._make_join_token(""),
                svm_id=f"enrolled-{self._fresh}",
                csr=self._random.choice(self.known["csr"]),
            )
        )

    def _unspent(self, svm_id: str) -> list[str]:
        """The secrets of join tokens that still can be used, for one SVM or for any."""
        token_ids = self._store.column(
            "SELECT token_id FROM tokens WHERE kind = 'JOIN' AND used_at IS NULL"
            " AND revoked_at IS NULL AND svm_id = ? ORDER BY number",
            svm_id,
        )
        return [self._secrets[token_id] for token_id in token_ids if token_id in self._secrets]

    def _name_all(self) -> None:
        self._fresh += 40
        self.known |= {
            "token_id": self._store.column(
                "SELECT token_id FROM tokens WHERE revoked_at IS NULL ORDER BY number DESC LIMIT 40"
            ),
            "certificate_serial": self._store.column(
                "SELECT serial FROM certificates ORDER BY number DESC LIMIT 40"
            ),
            "join_token": [*self._unspent(""), *self._unspent(self.known["svm_id"][0])],
            # A token for any SVM is for one that has never enrolled.
            "sparekey.v1.EnrollRequest.svm_id": [f"new-{self._fresh + one}" for one in range(40)],
        }


def _open(address: Address, authority: Authority, identity: Identity | None) -> grpc.aio.Channel:
    chain = pem = None
    if identity is not None:
        key = new_key()
        issued = authority.issue(key.public_key(), identity, timedelta(days=2), datetime.now(UTC))
        chain, pem = issued.chain, key_pem(key)
    credentials = grpc.ssl_channel_credentials(authority.root, pem, chain)
    options = [*TRANSPORT, ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(str(address), credentials, options)
