"""One table of knobs: the program, its help and the README say the same."""

import inspect
import re
from pathlib import Path

import pytest

from sparekey.activation.fake.faults import FaultKind
from sparekey.activation.fake.knobs import FAULTS, FLAGS, markdown_table
from sparekey.activation.fake.main import LogLevel, run, serve

README = Path(__file__).parents[3] / "activation" / "README.md"


def shown(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def test_the_readme_has_the_table_of_the_code() -> None:
    found = re.search(r"<!-- knobs -->\n(.*)<!-- end of knobs -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found.group(1) == markdown_table()


def test_the_readme_says_first_that_this_is_for_tests_only() -> None:
    assert README.read_text().splitlines()[0].startswith("**For tests only")


def test_the_help_text_has_every_flag_and_fault_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    text = shown(capsys.readouterr().out)
    for knob in FLAGS.values():
        assert f"{knob.name} {knob.value} {knob.meaning} [default: {knob.default}]" in text
    for knob in FAULTS.values():
        assert f"{knob.name}: {knob.meaning}" in text
    flags = set(re.findall(r"(?<=\s)--[a-z-]+", text))
    assert flags == {knob.name for knob in FLAGS.values()} | {"--help"}


def test_the_table_is_complete_and_its_defaults_are_the_real_ones() -> None:
    assert set(FAULTS) == set(FaultKind)
    parameters = inspect.signature(serve).parameters
    assert list(parameters) == list(FLAGS)
    for name in ("listen", "control", "chaos"):
        assert str(parameters[name].default) == FLAGS[name].default
    assert parameters["log_level"].default is LogLevel(FLAGS["log_level"].default)
    for name in ("data", "seed"):
        assert parameters[name].default is None
