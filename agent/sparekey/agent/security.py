"""What the command line says about encryption and identity."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparekey.agent.credentials import ROOT_NAME, Credentials
from sparekey.agent.enrolling import CertificateKeeper
from sparekey.certificates.private_files import read_private
from sparekey.runtime.startup import Address, StartupRefused, parse_address

JOIN_TOKEN_VARIABLE = "SPAREKEY_JOIN_TOKEN"  # noqa: S105 - a name, no token


@dataclass(frozen=True, slots=True)
class Security:
    """The options about encryption and identity, as they were given.

    Attributes:
        ca_file: By whom to know the server.
        join_token_file: Where the join token is.
        enroll_at: Where to enroll.
        certificate: A certificate of another PKI.
    """

    ca_file: Path | None
    join_token_file: Path | None
    enroll_at: str | None
    certificate: Path | None

    def wanted(self, folder: Path) -> bool:
        """Whether to speak TLS; an agent that once did never goes back by itself."""
        given = (self.ca_file, self.join_token_file, self.enroll_at, self.certificate)
        return any(given) or (folder / ROOT_NAME).exists()

    def credentials(self, folder: Path, svm_id: str) -> Credentials:
        """Open the agent's credentials.

        Raises:
            StartupRefused: a file cannot be used, or the agent could never enroll.
        """
        credentials = Credentials(folder, svm_id, self.ca_file, self.certificate)
        if credentials.certified is None and (self._join_token() is None or not self.enroll_at):
            raise StartupRefused(
                "the agent has no certificate yet; get a token with `sparekey join-token create`"
                " and give it with --join-token-file, and the server's --token-listen with"
                " --enroll-at"
            )
        return credentials

    def keeper(
        self, credentials: Credentials, server: Address, changed: Callable[[], None]
    ) -> CertificateKeeper:
        """What keeps the agent's certificate in force."""
        return CertificateKeeper(
            credentials,
            server,
            enroll_at=parse_address(self.enroll_at) if self.enroll_at else None,
            join_token=self._join_token(),
            changed=changed,
        )

    def _join_token(self) -> str | None:
        if self.join_token_file is not None:
            return read_private(self.join_token_file).decode("utf-8", "replace").strip() or None
        return os.environ.get(JOIN_TOKEN_VARIABLE) or None
