"""One fake's state: what its two services share."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from random import Random

import structlog

from sparekey.activation.fake.atomic_files import replace_file
from sparekey.activation.fake.catalogue import Catalogue
from sparekey.activation.fake.catalogue_file import (
    decode_records,
    encode_records,
    load_records,
)
from sparekey.activation.fake.fake_clock import FakeClock
from sparekey.activation.fake.faults import Fault, FaultPlan
from sparekey.activation.fake.journal import Journal
from sparekey.activation.fake.messages import Answer
from sparekey.activation.fake.signing import Signing
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused

_log = structlog.get_logger()


class FakeState:
    """The catalogue with its file, the clock, the faults, the journal and the last answers.

    It belongs to one event loop and no method of it waits, so every call is carried out as one.

    Args:
        signing: The signing key.
        clock: The fake's time.
        randomness: Where serials and the draws of the faults of the start come from.
        catalogue_path: The catalogue's file.
        faults: Those in force at the start and after each reset.

    Raises:
        StartupRefused: the catalogue's file cannot be used.
    """

    def __init__(
        self,
        *,
        signing: Signing,
        clock: FakeClock,
        randomness: Random,
        catalogue_path: Path,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.signing = signing
        self.clock = clock
        self._path = catalogue_path
        self._first_faults = tuple(faults)
        # A source of its own: how many calls were struck shall not change the serials.
        self._fault_seed = randomness.getrandbits(64)
        self.catalogue = Catalogue(
            signing.sign, randomness, load_records(catalogue_path, signing.read)
        )
        self._saved = encode_records(self.catalogue.records)
        self._saved_changes = self.catalogue.changes
        self.clock.stand_at(self.catalogue.records.clock_stands_at)
        self.journal = Journal()
        self.last_answers: dict[str, Answer] = {}
        self.set_faults(self._first_faults, self._fault_seed)

    def set_faults(self, faults: Sequence[Fault], seed: int) -> None:
        """Replace the faults; the same seed draws the same calls."""
        self.faults = FaultPlan(faults, Random(seed))  # noqa: S311 - to be repeated, not secret

    def save(self) -> None:
        """Keep the catalogue in its file, where it changed.

        Raises:
            CallRefused: it cannot be written; the catalogue is again as it was last kept.
        """
        if self.catalogue.changes == self._saved_changes:
            return
        content = encode_records(self.catalogue.records)
        try:
            replace_file(self._path, content, mode=0o600)
        except OSError as error:
            _log.error("the catalogue cannot be written", path=str(self._path), problem=str(error))
            self.catalogue.records = decode_records(self._saved, self.signing.read)
            self._saved_changes = self.catalogue.changes
            raise CallRefused(
                error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE,
                "the fake activation server cannot write its data folder; free some space or mend"
                " its rights, then try again",
            ) from None
        self._saved = content
        self._saved_changes = self.catalogue.changes

    def set_clock(self, instant: datetime | None) -> None:
        """Let the clock stand at an instant, or run; kept over a restart.

        Raises:
            CallRefused: the catalogue cannot be written.
        """
        self.catalogue.stand_clock_at(instant)
        self.save()
        self.clock.stand_at(instant)

    def reset(self) -> None:
        """Forget codes, keys, faults and the journal; the signing key and the clock stay.

        Raises:
            CallRefused: the catalogue cannot be written.
        """
        self.catalogue.forget()
        self.save()
        self.journal = Journal()
        self.last_answers.clear()
        self.set_faults(self._first_faults, self._fault_seed)
