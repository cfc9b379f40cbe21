"""The site that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from .secure_site import SecureSite, start_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSite]:
    folder = tmp_path_factory.mktemp("secure")
    started = start_site(folder, "--test-clock", datetime.now(UTC).isoformat())
    try:
        yield started
    finally:
        for channel in started.channels:
            channel.close()
        started.program.stop()
