"""No activation code and no private key leaves by a log (R79)."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from sparekey.runtime.logs import configure_logs, redact_event, redact_text

CODE = "TEST0-ABCDE-12345-ZZ9ZZ"
REDACTED = "*****-*****-*****-ZZ9ZZ"
PEM = (
    Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
PEM_BODY = PEM.splitlines()[1]
SERIALS = ["4A3F-00B2C1-9D8E7F66", "0123456789ABCDEF0123456789ABCDEF"]


@dataclass
class Request:
    """Something that shows what it holds, as messages do."""

    activation_code: str


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "code={}",
        "a {} b {} c",
        "'{}'",
        "\\n{}",
        "b'\\x00{}'",
        "?code={}&x=1",
        "{}.",
        "_{}_",
        "code{}code",
    ],
)
def test_codes_are_cut_wherever_they_stand(text: str) -> None:
    for code in (CODE, CODE.lower()):
        redacted = redact_text(text.format(code, code))
        assert "TEST0" not in redacted.upper()
        assert "ABCDE-12345" not in redacted.upper()
        assert "*****-*****-*****-" in redacted


@given(st.text(), st.from_regex(r"([A-Z0-9]{5}-){3}[A-Z0-9]{5}", fullmatch=True), st.text())
def test_R79_no_code_survives_whatever_is_around_it(before: str, code: str, after: str) -> None:
    assert code not in redact_text(before + code + after)


@pytest.mark.parametrize("serial", SERIALS)
def test_serials_and_other_ids_are_not_secrets(serial: str) -> None:
    text = f"key {serial} on 8b1f0a52-7c57-4d0c-9a6e-0d3c2b1a9f00 at 2030-01-01T00:00:00Z"
    assert redact_text(text) == text


@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH "])
def test_private_keys_are_taken_out(kind: str) -> None:
    pem = PEM.replace("PRIVATE", f"{kind}PRIVATE")
    for text in (pem, f"x {pem!r} y", f"a\n{pem}\n{pem}b", pem[:-30]):
        redacted = redact_text(text)
        assert PEM_BODY[:20] not in redacted
        assert "[private key]" in redacted
    assert redact_text(f"before {pem} after") == "before [private key]\n after"


def test_public_keys_and_certificates_stay() -> None:
    text = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        CODE,
        CODE.encode(),
        bytearray(CODE.encode()),
        memoryview(CODE.encode()),
        [CODE],
        (1, (CODE,)),
        {CODE},
        {"a": {"b": [CODE]}},
        {CODE: 1},
        {"a": {CODE: 1}},
        Request(CODE),
        [Request(CODE)],
        ValueError(CODE),
        PEM,
        PEM.encode(),
        {"key": PEM},
    ],
    ids=lambda value: type(value).__name__,
)
def test_secrets_are_found_at_any_depth_and_in_any_type(value: Any) -> None:
    redacted = redact_event(None, "info", {"event": "x", "value": value})
    for form in (repr(redacted), str(redacted), json.dumps(redacted, default=repr)):
        assert CODE not in form
        assert PEM_BODY not in form


def test_what_holds_no_secret_keeps_its_value() -> None:
    event = {"event": "x", "n": 1, "f": 1.5, "none": None, "yes": True, "d": {"a": [1, "b"]}}
    assert redact_event(None, "info", dict(event)) == event


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_secret_reaches_standard_error(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("sparekey-x", as_json=as_json)
    log = structlog.get_logger()
    said = f"redeeming {CODE}"
    log.info(said, code=CODE, request=Request(CODE), key=PEM)
    try:
        fail(f"the code {CODE} and the key {PEM}")
    except ValueError as error:
        log.exception("it failed")
        log.warning("it failed", exc_info=error)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert CODE not in printed.err
    assert PEM_BODY not in printed.err
    assert printed.err.count(REDACTED) >= 5
    assert printed.err.count("Traceback") == 2
    assert "sparekey-x" in printed.err


def test_json_logs_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("sparekey-x", as_json=True)
    structlog.get_logger().warning("two\nlines", svm_id="svm-1")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["event"] == "two\nlines"
    assert (event["level"], event["program"], event["svm_id"]) == ("warning", "sparekey-x", "svm-1")
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 1)])
def test_the_level_decides_what_is_written(
    level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("sparekey-x", level=level)
    log = structlog.get_logger()
    for write in (log.debug, log.info, log.error):
        write("something")
    assert capsys.readouterr().err.count("something") == count


def _by_argument(log: logging.Logger) -> None:
    log.warning("the code is %s", CODE)


def _by_traceback(log: logging.Logger) -> None:
    try:
        fail(CODE)
    except ValueError:
        log.exception("it failed")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("write", [_by_argument, _by_traceback])
def test_the_logs_of_libraries_are_redacted_too(
    write: Callable[[logging.Logger], None], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("sparekey-x", as_json=as_json)
    write(logging.getLogger("asyncio"))
    printed = capsys.readouterr().err
    assert CODE not in printed
    assert REDACTED in printed
    assert "sparekey-x" in printed
    if as_json:
        assert json.loads(printed)["logger"] == "asyncio"


def test_a_log_that_cannot_be_written_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(sys, "stderr", FullDisk())
    configure_logs("test")
    structlog.get_logger().error("the storage cannot be written")
