"""Wrong flags end in one sentence; what a right one leads to needs the real program."""

import pytest

from sparekey.activation.fake.main import run


@pytest.mark.parametrize(
    "arguments",
    [
        ["--wrong"],
        ["extra"],
        ["--chaos", "101"],
        ["--chaos", "-1"],
        ["--chaos", "few"],
        ["--seed", "x"],
        ["--seed", "-1"],
        ["--log-level", "loud"],
        ["--listen"],
    ],
)
def test_a_wrong_flag_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 2
    out, sentence = capsys.readouterr()
    assert out == ""
    assert sentence.startswith("sparekey-fake-activation: ")
    assert sentence.endswith("; see --help\n")
    assert sentence.count("\n") == 1
    assert arguments[0] in sentence
