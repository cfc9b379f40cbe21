"""The house's own rules: its floors, its sizes, and whose names it does not bear (R101)."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).parents[2]
MOST_LINES = 400
SOURCES = (
    "licensing",
    "wire",
    "runtime",
    "certificates",
    "server",
    "agent",
    "activation",
    "cli",
    "testing",
)
_GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")

# In pieces, so that this file does not bear them either.
VENDOR_WORDS = [
    "kas" + "persky",
    "kav" + "shell",
    "klnag" + "ent",
    "kl" + "srv",
    "kl" + "svm",
    "viis" + "adm",
    "ks" + "vla",
    "ks" + "v6nola",
    "securel" + "ist",
    "vdp" + "instance",
]
# Short ones only as words of their own, since they are parts of other words.
VENDOR_INITIALS = ["ks" + "c", "ks" + "n", "ks" + "v", "ke" + "s", "ks" + "ws", "ks" + "mg"]


def wheel_settings() -> dict[str, Any]:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    settings: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    return settings


def house_files() -> list[Path]:
    """What is tracked or about to be: everything but what .gitignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE,
        capture_output=True,
        check=True,
    ).stdout
    paths = [HOUSE / name.decode() for name in listed.split(b"\0") if name]
    return sorted(path for path in paths if path.is_file())


def test_the_three_lists_of_source_roots_agree() -> None:
    settings = wheel_settings()
    roots = settings["sources"]
    assert settings["dev-mode-dirs"] == roots
    assert settings["only-include"] == [f"{root}/sparekey" for root in roots]
    assert sorted(roots) == sorted({*SOURCES, "proto"})


@pytest.mark.parametrize("root", ["proto", *SOURCES])
def test_every_source_root_exists_and_is_a_namespace(root: str) -> None:
    assert (HOUSE / root / "sparekey").is_dir()
    assert not (HOUSE / root / "sparekey" / "__init__.py").exists()


def test_no_two_roots_hold_the_same_package() -> None:
    packages = [
        child.name
        for root in SOURCES
        for child in (HOUSE / root / "sparekey").iterdir()
        if (child / "__init__.py").exists()
    ]
    assert len(packages) == len(set(packages))


def test_no_source_file_is_too_long_to_read() -> None:
    too_long = {
        str(path.relative_to(HOUSE)): count
        for path in house_files()
        if path.suffix == ".py"
        and path.relative_to(HOUSE).parts[0] in SOURCES
        and not _GENERATED.search(path.name)
        and (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert too_long == {}


def vendor_words_in(text: str) -> set[str]:
    lowered = text.lower()
    found = {word for word in VENDOR_WORDS if word in lowered}
    initials = "|".join(VENDOR_INITIALS)
    return found | set(re.findall(rf"(?<![a-z0-9])(?:{initials})(?![a-z0-9])", lowered))


def test_R101_no_file_bears_a_vendors_name() -> None:
    bearing = {}
    for path in house_files():
        text = path.read_bytes().decode("utf-8", "ignore")
        if found := vendor_words_in(f"{path.relative_to(HOUSE)}\n{text}"):
            bearing[str(path.relative_to(HOUSE))] = sorted(found)
    assert bearing == {}


def test_R101_the_search_would_find_them() -> None:
    for word in [*VENDOR_WORDS, *VENDOR_INITIALS]:
        assert vendor_words_in(f"the {word.upper()} thing") == {word}
    assert vendor_words_in("discs and asks likewise") == set()
