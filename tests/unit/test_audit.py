"""What the search for known weaknesses in packages makes of its answers."""

from __future__ import annotations

from typing import Any

import audit
import pytest

GOOD = {"name": "grpcio", "version": "1.80.0", "vulns": []}
SILENT = {"name": "grpcio", "skip_reason": "not found"}
WEAK = {
    "name": "weak",
    "version": "1.0",
    "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}, {"id": "CVE-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("answers", "exit_code", "said"),
    [
        ([[]], 0, "nothing was looked up"),
        ([[SILENT]], 0, "nothing was looked up"),
        ([[GOOD], [GOOD]], 0, "no known weakness in 1 packages"),
        ([[GOOD], [GOOD, WEAK]], 1, "weak 1.0: CVE-1, fixed in 1.1"),
        ([[GOOD], [GOOD, WEAK]], 1, "weak 1.0: CVE-2, fixed in no release yet"),
        ([[GOOD], [GOOD, {**SILENT, "name": "own"}]], 0, "nothing is said of own"),
    ],
)
def test_a_weakness_fails_and_an_unreachable_service_does_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[Any],
    exit_code: int,
    said: str,
) -> None:
    left = iter(answers)
    # The service itself cannot be run here; what it answers is what is told apart.
    monkeypatch.setattr(audit, "ask", lambda packages: next(left))
    assert audit.main() == exit_code
    assert said in capsys.readouterr().out


def test_all_packages_but_our_own_are_asked_about() -> None:
    packages = audit.installed()
    assert {"grpcio", "protobuf", "cryptography"} <= set(packages)
    assert "sparekey" not in packages
