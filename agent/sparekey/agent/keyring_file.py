"""The keyring on disk: one file, replaced whole, in which damage is noticed."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import structlog

from sparekey.agent.durable_file import replace_durably, synchronise_folder
from sparekey.agent.keyring_document import (
    VERSION,
    DamagedDocument,
    NewerDocument,
    decode_record,
    encode_record,
)
from sparekey.agent.keyring_record import KeyringRecord
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.startup import StartupRefused

FILE_NAME = "keyring.json"

_log = structlog.get_logger()


class KeyringFile:
    """Keeps the record in `keyring.json` of a state folder that this process has locked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def load(self, trusted: TrustedSigners) -> KeyringRecord:
        """The record as it was saved last; an empty one where there is none or it is damaged.

        A damaged file is put aside as `keyring.json.damaged-1` and so on. The server then
        restores the keyring from what the SVM reported last.

        Raises:
            StartupRefused: a newer release wrote the file, which stays as it is; or it cannot
                be read or put aside.
        """
        try:
            encoded = self.path.read_bytes()
        except FileNotFoundError:
            return KeyringRecord()
        except OSError as error:
            raise StartupRefused(
                f"cannot read {self.path} ({_reason(error)}); mend its rights"
            ) from None
        try:
            return decode_record(encoded, trusted)
        except NewerDocument as newer:
            raise StartupRefused(
                f"{self.path} was written by a newer release (format {newer.version}, this one"
                f" knows {VERSION}); start that release, or move the file away to begin anew"
            ) from None
        except DamagedDocument as damage:
            aside = self._put_aside()
            _log.error(
                "the keyring file is damaged and was put aside; the SVM starts without keys until"
                " the server restores them",
                file=str(self.path),
                damage=str(damage),
                kept_as=str(aside),
            )
            return KeyringRecord()

    def save(self, record: KeyringRecord) -> None:
        """Replace the file; see `replace_durably`.

        Raises:
            OSError: it could not be written.
        """
        replace_durably(self.path, encode_record(record))

    def _put_aside(self) -> Path:
        names = (self.path.with_name(f"{FILE_NAME}.damaged-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        try:
            self.path.rename(aside)
            synchronise_folder(self.path.parent)
        except OSError as error:
            raise StartupRefused(
                f"{self.path} is damaged and cannot be put aside ({_reason(error)}); move it away"
            ) from None
        return aside


def _reason(error: OSError) -> str:
    return (error.strerror or "not possible").lower()
