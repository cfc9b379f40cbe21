"""docs/rules.md states every rule once and names only tests that are there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DOCUMENT = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
WITHOUT_TEST = {"57"}
"""R57 says what another product does and that R4 is followed here."""

STATED = re.findall(r"^- \*\*R(\d+)\*\*(.*(?:\n  .*)*)", DOCUMENT, flags=re.MULTILINE)


def names_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {
        name or case
        for name, case in re.findall(
            r"^ *(?:async )?def (test_\w+)|^(Test\w+) =", text, re.MULTILINE
        )
    }


def test_every_rule_is_stated_once_and_in_order() -> None:
    assert [int(number) for number, _ in STATED] == list(range(1, 102))


def test_every_test_that_the_document_names_is_there() -> None:
    """A test named with a folder is looked for from the root, any other one here."""
    named = re.findall(r"`((?:[\w-]+/)*)(test_\w+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 100
    missing = {
        f"{folder}{file}::{test}"
        for folder, file, test in named
        if test not in names_in((ROOT / folder if folder else HERE) / file)
    }
    assert missing == set()


def test_every_test_named_after_a_rule_is_found_beside_that_rule() -> None:
    text = dict(STATED)
    missing = {
        (number, f"{_as_written(path)}::{test}")
        for path in (ROOT / "tests").rglob("test_*.py")
        for test in names_in(path)
        for number in re.findall(r"R(\d+)", test)
        if f"`{_as_written(path)}::{test}`" not in text[number]
    }
    assert missing == set()


def _as_written(path: Path) -> str:
    return path.name if path.parent == HERE else path.relative_to(ROOT).as_posix()


def test_every_rule_is_held_by_a_test() -> None:
    assert {number for number, text in STATED if "::test_" not in text} == WITHOUT_TEST


def test_the_rules_over_time_are_named_by_tests() -> None:
    """Those of R42-R44, R52-R74 and R82-R100 that speak of behaviour: all but those above."""
    over_time = {str(one) for one in (*range(42, 45), *range(52, 75), *range(82, 101))}
    for number, text in STATED:
        if number in over_time - WITHOUT_TEST:
            assert re.search(rf"::test_\w*R{number}(?!\d)", text), f"R{number}"
