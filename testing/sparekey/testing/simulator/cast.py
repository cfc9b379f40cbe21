"""SVMs by name, from a file, in place of a mix; and their state folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from sparekey.agent.keyring_file import KeyringFile
from sparekey.runtime.startup import StartupRefused, writable_folder
from sparekey.testing.fleet.simulated import SimulatedSvm, make_svm


def read_cast(path: Path) -> list[SimulatedSvm]:
    """The SVMs of a JSON list; of each `svm_id`, and whatever else `make_svm` takes.

    Raises:
        StartupRefused: the file is not of that form.
    """
    try:
        return [make_svm(**one) for one in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise StartupRefused(
            f'{path} holds no SVMs ({error}); write a list such as [{{"svm_id": "svm-1"}}]'
        ) from None


def keep_on_disk(svms: Iterable[SimulatedSvm], folder: Path) -> None:
    """Keep each SVM's keyring in a state folder of its own, named by the SVM's id.

    Raises:
        StartupRefused: one cannot be written.
    """
    for svm in svms:
        svm.storage = KeyringFile(writable_folder(folder / svm.svm_id))
