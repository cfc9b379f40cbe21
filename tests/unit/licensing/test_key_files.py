"""R80: signed keys; what is not exactly as signed is refused."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.licensing.key_files import (
    MAX_SIZE,
    InvalidKeyFile,
    KeyFileProblem,
    KeySigner,
    TrustedSigners,
    encode_public_key,
)
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey

MakeKey = Callable[..., LicenseKey]
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = KeySigner("test-authority", PRIVATE_KEY)
TRUSTED = TrustedSigners({"test-authority": SIGNER.public_key})


def problem_of(content: bytes, trusted: TrustedSigners = TRUSTED) -> KeyFileProblem:
    with pytest.raises(InvalidKeyFile) as caught:
        trusted.read(content)
    return caught.value.problem


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def resigned(document: dict[str, Any]) -> bytes:
    """The document with a true signature over whatever it now says."""
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    signature = PRIVATE_KEY.sign(canonical(unsigned).removesuffix(b"\n"))
    return canonical({**unsigned, "signature": signature.hex()})


def with_upper_case_signature(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "signature": document["signature"].upper()}


@pytest.fixture
def signed(make_key: MakeKey) -> bytes:
    return SIGNER.sign(make_key(number=0xABC))


def test_R80_a_key_survives_signing_and_reading(make_key: MakeKey) -> None:
    for key in (
        make_key(),
        make_key(KeyType.CORES, kind=KeyKind.SUBSCRIPTION, ends=None, edition=Edition.ENTERPRISE),
        make_key(KeyType.PROCESSORS, kind=KeyKind.TRIAL, origin=KeyOrigin.ACTIVATION_CODE),
        replace(make_key(), not_before=make_key().not_before + timedelta(microseconds=1)),
    ):
        assert TRUSTED.read(SIGNER.sign(key)) == key


def test_R80_the_form_is_one_line_of_canonical_json(signed: bytes) -> None:
    document = json.loads(signed)
    assert canonical(document) == signed
    assert resigned(document) == signed
    assert document["format"] == "sparekey-key/1"
    assert document["signer"] == "test-authority"
    assert len(bytes.fromhex(document["signature"])) == 64
    assert document["key"] == {
        "edition": "STANDARD",
        "expires_at": "2030-01-31T00:00:00.000000Z",
        "kind": "COMMERCIAL",
        "not_before": "2029-12-02T00:00:00.000000Z",
        "origin": "KEY_FILE",
        "serial": "0ABC-000ABC-00000ABC",
        "type": "SERVER",
        "unit_limit": 100,
    }


def test_R80_signing_again_gives_the_same_bytes(make_key: MakeKey) -> None:
    assert SIGNER.sign(make_key(number=1)) == SIGNER.sign(make_key(number=1))


def test_R80_every_changed_byte_is_refused(signed: bytes) -> None:
    for position, original in enumerate(signed):
        one_bit_off = {original ^ (1 << bit) for bit in range(8)}
        for other in (one_bit_off | set(b'09afAFZ "\\\n{}\x00\xff')) - {original}:
            changed = bytearray(signed)
            changed[position] = other
            with pytest.raises(InvalidKeyFile):
                TRUSTED.read(bytes(changed))


def test_R80_every_missing_or_doubled_byte_is_refused(signed: bytes) -> None:
    for position in range(len(signed)):
        problem_of(signed[:position] + signed[position + 1 :])
        problem_of(signed[: position + 1] + signed[position:])
        problem_of(signed[:position])


@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n",
        lambda text: text.rstrip(b"\n") + b"\r\n",
        lambda text: b" " + text,
        lambda text: text.replace(b'":', b'": '),
        lambda text: text.replace(b'"SERVER"', b'"\\u0053ERVER"'),
        lambda text: text.replace(b'"unit_limit":100', b'"unit_limit":100,"unit_limit":100'),
        lambda text: text.replace(b'"unit_limit":100', b'"unit_limit":1e2'),
        lambda text: canonical(with_upper_case_signature(json.loads(text))),
        lambda text: text.replace(b'"signature":"', b'"signature":" '),
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: text.decode().encode("utf-16"),
    ],
)
def test_R80_another_spelling_of_the_same_document_is_not_canonical(
    signed: bytes, respell: Callable[[bytes], bytes]
) -> None:
    assert respell(signed) != signed
    assert problem_of(respell(signed)) is KeyFileProblem.NOT_CANONICAL


@pytest.mark.parametrize("value", ["2030-01-31T00:00:00Z", "2030-01-31T00:00:00.000000+00:00"])
def test_R80_another_spelling_inside_the_key_is_refused_though_signed(
    signed: bytes, value: str
) -> None:
    document = json.loads(signed)
    document["key"]["expires_at"] = value
    assert problem_of(resigned(document)) is KeyFileProblem.NOT_CANONICAL


def test_R80_an_extra_field_in_the_key_is_refused_though_signed(signed: bytes) -> None:
    document = json.loads(signed)
    document["key"]["note"] = "free upgrade"
    assert problem_of(resigned(document)) is KeyFileProblem.NOT_CANONICAL


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b'"text"\n',
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * MAX_SIZE,
        b'{"a":' * 800,
        b"9" * MAX_SIZE,
    ],
)
def test_R80_what_is_no_key_file_is_called_so(content: bytes) -> None:
    assert problem_of(content) is KeyFileProblem.NOT_A_KEY_FILE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "sparekey-key/2"),
        ("format", None),
        ("key", []),
        ("key", "text"),
        ("key", {"serial": []}),
        ("key", {"serial": {}}),
        ("signature", 5),
        ("signature", "not hex"),
        ("signer", None),
        ("signer", "Upper"),
        ("signer", "\ud800"),
        ("more", 1),
    ],
)
def test_R80_a_document_of_another_shape_is_no_key_file(
    signed: bytes, name: str, value: Any
) -> None:
    document = {**json.loads(signed), name: value}
    assert problem_of(canonical(document)) is KeyFileProblem.NOT_A_KEY_FILE


def test_R80_the_size_limit_is_4096_bytes(signed: bytes) -> None:
    assert MAX_SIZE == 4096
    assert problem_of(b" " * 4097) is KeyFileProblem.TOO_LARGE
    assert problem_of(b" " * 4096) is KeyFileProblem.NOT_A_KEY_FILE


def test_R80_only_trusted_signers_count(make_key: MakeKey, signed: bytes) -> None:
    other = KeySigner("other", Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    assert problem_of(other.sign(make_key())) is KeyFileProblem.UNKNOWN_SIGNER
    both = TrustedSigners({"test-authority": SIGNER.public_key, "other": other.public_key})
    key = make_key()
    assert both.read(other.sign(key)) == key
    # A key of one signer under the name of another.
    swapped = signed.replace(b'"test-authority"', b'"other"')
    assert problem_of(swapped, both) is KeyFileProblem.BAD_SIGNATURE
    impostor = KeySigner("test-authority", Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))
    assert problem_of(impostor.sign(key)) is KeyFileProblem.BAD_SIGNATURE


def test_R80_a_true_change_of_content_breaks_the_signature(signed: bytes) -> None:
    more = signed.replace(b'"unit_limit":100', b'"unit_limit":999')
    assert problem_of(more) is KeyFileProblem.BAD_SIGNATURE


def test_R80_an_equivalent_signature_is_refused(signed: bytes) -> None:
    """Ed25519: adding the group order to the second half gives another sum that once passed."""
    order = 2**252 + 27742317777372353535851937790883648493
    document = json.loads(signed)
    signature = bytes.fromhex(document["signature"])
    second = int.from_bytes(signature[32:], "little") + order
    document["signature"] = (signature[:32] + second.to_bytes(32, "little")).hex()
    assert problem_of(canonical(document)) is KeyFileProblem.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serial", "F"),
        ("serial", 5),
        ("type", "UNIVERSAL"),
        ("kind", "GIFT"),
        ("edition", None),
        ("origin", "MAIL"),
        ("unit_limit", -1),
        ("unit_limit", 1.5),
        ("unit_limit", True),
        ("not_before", "soon"),
        ("not_before", None),
        ("not_before", "2029-12-02T00:00:00.000000+01:00"),
        ("not_before", "2029-12-02T00:00:00.000000"),
        ("expires_at", None),
        ("expires_at", "2029-12-02T00:00:00.000000Z"),
        ("expires_at", 0),
    ],
)
def test_R80_a_signed_key_that_breaks_a_rule_is_invalid(
    signed: bytes, name: str, value: Any
) -> None:
    document = json.loads(signed)
    document["key"][name] = value
    assert problem_of(resigned(document)) is KeyFileProblem.INVALID_KEY
    del document["key"][name]
    assert problem_of(resigned(document)) is KeyFileProblem.INVALID_KEY


def test_R80_every_problem_says_what_to_do_and_repeats_no_content() -> None:
    messages = {str(InvalidKeyFile(problem)) for problem in KeyFileProblem}
    assert len(messages) == len(KeyFileProblem)
    assert all(message.endswith(".") for message in messages)
    with pytest.raises(InvalidKeyFile) as caught:
        TRUSTED.read(b"secret words\n")
    assert "secret" not in str(caught.value)


def test_public_keys_travel_as_text(signed: bytes) -> None:
    text = encode_public_key(SIGNER.public_key)
    assert len(base64.b64decode(text)) == 32
    assert TrustedSigners.from_text({"test-authority": text}).read(signed) == TRUSTED.read(signed)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"\x01" * 31).decode(), "é"])
def test_a_text_that_is_no_public_key_is_refused_by_its_signers_name(text: str) -> None:
    with pytest.raises(ValueError, match="someone"):
        TrustedSigners.from_text({"someone": text})


@pytest.mark.parametrize("signer_id", ["", "Upper", "with space", 'quo"te', "-x", "x" * 65, "x\n"])
def test_a_signer_id_of_another_shape_is_refused(signer_id: str) -> None:
    with pytest.raises(ValueError, match="signer id"):
        KeySigner(signer_id, PRIVATE_KEY)
    with pytest.raises(ValueError, match="signer id"):
        TrustedSigners({signer_id: SIGNER.public_key})


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=200))
def test_R80_noise_is_refused_and_never_raises_anything_else(content: bytes) -> None:
    problem_of(content)
