"""At the end of each run its logs and histories are searched for secrets (R79)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from secrets_told import search


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run where a program of it told a secret."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    base: Path | None = getattr(factory, "_basetemp", None)
    if base is None or not base.exists():
        return
    told = search(base)
    if told:
        print("\nsecrets were told:\n" + "\n".join(told), file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
