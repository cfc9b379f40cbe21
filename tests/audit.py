"""Asks whether installed packages have known weaknesses: `python -m audit`.

Where the service that knows them cannot be asked, one package is tried, one line says so, and that
is no failure: a weakness that is found is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

OWN = "sparekey"
PROBE = "grpcio"
SECONDS = 300

Audited = Sequence[dict[str, Any]]
"""What pip-audit says of each package: a name, a version, and `vulns` or a `skip_reason`."""


def installed() -> dict[str, str]:
    """The versions of this environment's packages by name, without our own."""
    found = {one.metadata["Name"]: one.version for one in distributions()}
    return {name: found[name] for name in sorted(found) if name.lower() != OWN}


def ask(packages: dict[str, str]) -> Audited:
    """What the service knows of packages; nothing where it cannot be asked at all."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "packages.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, "--requirement", str(wanted)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    try:
        answered: Audited = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return answered


def unknown(audited: Audited) -> list[str]:
    """Packages of which the service said nothing."""
    return [one["name"] for one in audited if "skip_reason" in one]


def weaknesses(audited: Iterable[dict[str, Any]]) -> list[str]:
    """One line for each known weakness."""
    return [
        f"{one['name']} {one['version']}: {weakness['id']}, fixed in"
        f" {', '.join(weakness['fix_versions']) or 'no release yet'}"
        for one in audited
        for weakness in one.get("vulns", ())
    ]


def main() -> int:
    """Ask, and fail where a weakness is known."""
    packages = installed()
    probed = ask({PROBE: packages[PROBE]})
    if not probed or unknown(probed):
        print("pip-audit: known weaknesses cannot be asked for from here; nothing was looked up")
        return 0
    audited = ask(packages)
    found = weaknesses(audited)
    silent = unknown(audited)
    known = len(audited) - len(silent)
    print("\n".join(found) or f"pip-audit: no known weakness in {known} packages")
    if silent:
        print(f"pip-audit: nothing is said of {', '.join(silent)}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
