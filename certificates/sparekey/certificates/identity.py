"""The identity that a certificate carries: one URI among its alternative names.

`sparekey://svm/ID` is an SVM, `sparekey://operator/ROLE/NAME` an operator. Names
elsewhere in a certificate mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

ROLES = ("viewer", "operator", "admin")
"""What operators may be; each may do what the one before it may."""

_SVM = re.compile(r"sparekey://svm/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)")
_OPERATOR = re.compile(rf"sparekey://operator/({'|'.join(ROLES)})/([A-Za-z0-9._@-]{{1,64}})")


@dataclass(frozen=True, slots=True)
class SvmIdentity:
    """An SVM's agent."""

    svm_id: str

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        return f"sparekey://svm/{self.svm_id}"


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """A person or a program that operates the server."""

    role: str
    name: str

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        return f"sparekey://operator/{self.role}/{self.name}"


Identity = SvmIdentity | OperatorIdentity


def parse_identity(uris: Iterable[str]) -> Identity | None:
    """The one identity among a certificate's URIs; None where there is none, or more than one."""
    found: list[Identity] = []
    for uri in uris:
        if svm := _SVM.fullmatch(uri):
            found.append(SvmIdentity(svm[1]))
        elif operator := _OPERATOR.fullmatch(uri):
            found.append(OperatorIdentity(operator[1], operator[2]))
    return found[0] if len(found) == 1 else None


def is_identity(identity: Identity) -> bool:
    """Whether the identity's names are well formed."""
    return parse_identity([identity.uri]) == identity
