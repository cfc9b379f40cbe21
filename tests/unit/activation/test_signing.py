"""The signing key's file and the keys that it signs."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sparekey.activation.fake.catalogue import Catalogue
from sparekey.activation.fake.records import KeyProperties
from sparekey.activation.fake.signing import SIGNER_ID, Signing, load_or_make_signing
from sparekey.licensing.key_files import InvalidKeyFile, KeyFileProblem, TrustedSigners
from sparekey.runtime.startup import StartupRefused

At = Callable[[float], datetime]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "signing-key.pem", tmp_path / "vendor-keys.json"


def test_the_key_is_made_once_and_its_public_half_is_pinned(
    paths: tuple[Path, Path],
    catalogue: Catalogue,
    properties: Callable[[], KeyProperties],
    signing: Signing,
    at: At,
) -> None:
    own = load_or_make_signing(*paths)
    assert paths[0].stat().st_mode & 0o777 == 0o600
    pinned = json.loads(paths[1].read_text())
    assert pinned == own.public_keys
    assert load_or_make_signing(*paths).public_keys == pinned
    key = signing.read(catalogue.issue(properties(), at(0)).key_file)
    assert TrustedSigners.from_text(pinned).read(own.sign(key)) == key
    paths[1].write_text("{}")
    load_or_make_signing(*paths)
    assert json.loads(paths[1].read_text()) == pinned


def test_R80_a_wrong_signature_is_wrong_in_nothing_else(
    catalogue: Catalogue, properties: Callable[[], KeyProperties], signing: Signing, at: At
) -> None:
    key_file = catalogue.issue(properties(), at(0)).key_file
    spoiled = signing.with_wrong_signature(key_file)
    assert len(spoiled) == len(key_file)
    assert f'"signer":"{SIGNER_ID}"'.encode() in spoiled
    with pytest.raises(InvalidKeyFile) as refused:
        signing.read(spoiled)
    assert refused.value.problem is KeyFileProblem.BAD_SIGNATURE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_signing_key_that_others_can_read_is_refused(paths: tuple[Path, Path], mode: int) -> None:
    load_or_make_signing(*paths)
    paths[0].chmod(mode)
    with pytest.raises(StartupRefused, match=f"mode {mode:04o}.*; run: chmod 600 "):
        load_or_make_signing(*paths)


def test_what_is_no_ed25519_key_is_refused(paths: tuple[Path, Path]) -> None:
    other = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content in (b"", b"nothing", other):
        paths[0].write_bytes(content)
        paths[0].chmod(0o600)
        with pytest.raises(StartupRefused, match="holds no Ed25519 private key"):
            load_or_make_signing(*paths)


def test_a_key_file_that_is_a_folder_is_refused_in_one_sentence(paths: tuple[Path, Path]) -> None:
    paths[0].mkdir()
    with pytest.raises(StartupRefused, match="is a directory"):
        load_or_make_signing(*paths)
