"""The story's cast: fourteen SVMs in three clusters, and the keys that are bought for them.

All of it is data. What becomes of whom is not written here: it is asked of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sparekey.v1 import key_pb2

START = datetime(2030, 1, 1, tzinfo=UTC)
"""Where the test clock starts."""

END = datetime(2030, 5, 15, tzinfo=UTC)
"""Where the story leaves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCard:
    """A key as it is ordered from the vendor.

    Attributes:
        name: What the story calls it.
        days: Its term, from the start of the story on.
        units: How many licensing units it allows.
        code: The activation code that it comes by; empty for a key file.
        renewals: How often the activation server renews it by its code.
    """

    name: str
    type: key_pb2.KeyType.ValueType
    days: int
    edition: key_pb2.Edition.ValueType = key_pb2.EDITION_STANDARD
    kind: key_pb2.KeyKind.ValueType = key_pb2.KEY_KIND_COMMERCIAL
    units: int = 100
    code: str = ""
    renewals: int = 0

    @property
    def term(self) -> timedelta:
        """The term as a span."""
        return timedelta(days=self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """One SVM.

    Attributes:
        svm_id: Its id; the name says the cluster too.
        keys: The names of the keys with which it is activated; none is a choice as well.
    """

    svm_id: str
    servers: int = 0
    desktops: int = 0
    processors: int = 2
    cores: int = 16
    keys: tuple[str, ...] = ()

    @property
    def cluster(self) -> str:
        """The cluster, from the id."""
        return self.svm_id.rpartition("-")[0]


ACTIVE_KEYS = (
    KeyCard(name="server", type=key_pb2.KEY_TYPE_SERVER, days=90),
    KeyCard(name="desktop", type=key_pb2.KEY_TYPE_DESKTOP, days=100, units=250),
    KeyCard(
        name="cores", type=key_pb2.KEY_TYPE_CORES, days=120, edition=key_pb2.EDITION_ENTERPRISE
    ),
    KeyCard(name="processors", type=key_pb2.KEY_TYPE_PROCESSORS, days=110, units=8),
    KeyCard(
        name="subscription",
        type=key_pb2.KEY_TYPE_SERVER,
        kind=key_pb2.KEY_KIND_SUBSCRIPTION,
        days=365,
    ),
    KeyCard(
        name="renewing code",
        type=key_pb2.KEY_TYPE_SERVER,
        edition=key_pb2.EDITION_ENTERPRISE,
        days=95,
        code="TEST0-RENEW-AGAIN-00001",
        renewals=3,
    ),
    KeyCard(
        name="last code",
        type=key_pb2.KEY_TYPE_SERVER,
        edition=key_pb2.EDITION_ENTERPRISE,
        days=97,
        code="TEST0-NEVER-AGAIN-00002",
    ),
)
"""The keys of the first year."""

RESERVE_KEYS = (
    KeyCard(name="next server", type=key_pb2.KEY_TYPE_SERVER, days=455),
    KeyCard(name="next desktop", type=key_pb2.KEY_TYPE_DESKTOP, days=465, units=250),
    KeyCard(
        name="next cores",
        type=key_pb2.KEY_TYPE_CORES,
        days=485,
        edition=key_pb2.EDITION_ENTERPRISE,
    ),
    KeyCard(name="next processors", type=key_pb2.KEY_TYPE_PROCESSORS, days=475, units=8),
)
"""The keys that are to follow them."""

LONG_KEYS = (
    KeyCard(name="long server", type=key_pb2.KEY_TYPE_SERVER, days=1096),
    KeyCard(name="after long server", type=key_pb2.KEY_TYPE_SERVER, days=1461),
)
"""A key that outlasts a reserve, and the reserve for it."""

SVMS = (
    Character(svm_id="north-1", servers=12, keys=("server",)),
    Character(svm_id="north-2", servers=9, keys=("server",)),
    Character(svm_id="north-3", servers=7, keys=("server",)),
    Character(svm_id="north-4", servers=5),
    Character(svm_id="north-5", servers=4, keys=("subscription",)),
    Character(svm_id="harbour-1", desktops=40, keys=("desktop",)),
    Character(svm_id="harbour-2", desktops=35, keys=("desktop",)),
    Character(svm_id="harbour-3", servers=6, desktops=20, keys=("server", "desktop")),
    Character(svm_id="harbour-4", servers=8, keys=("renewing code",)),
    Character(svm_id="harbour-5", servers=2, keys=("last code",)),
    Character(svm_id="summit-1", servers=10, cores=32, keys=("cores",)),
    Character(svm_id="summit-2", servers=3, desktops=18, cores=32, keys=("cores",)),
    Character(svm_id="summit-3", servers=6, keys=("processors",)),
    Character(svm_id="summit-4", desktops=25, keys=("processors",)),
)
"""The SVMs."""

OFFLINE_DURING_THE_TASK = "north-3"
"""It is away when the reserve key is handed out."""

OFFLINE_AT_THE_END = "harbour-2"
"""It is away when its key ends."""

GETS_A_LONG_KEY = "north-2"
"""Its active key is replaced by one that outlasts its reserve (R18)."""

PROCESSOR_SVMS = ("summit-3", "summit-4")
"""The ones picked by hand."""


def svms_with(key: str) -> tuple[str, ...]:
    """The SVMs that are activated with a key of the cast."""
    return tuple(sorted(one.svm_id for one in SVMS if key in one.keys))
