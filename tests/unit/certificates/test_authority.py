"""The authority: its files, its certificates, its rotation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sparekey.certificates.authority import (
    ISSUING,
    ROOT,
    ROOT_KEY,
    Authority,
    create_authority,
    rotate_issuing,
)
from sparekey.certificates.identity import OperatorIdentity, SvmIdentity, parse_identity
from sparekey.certificates.keys import InvalidRequest, make_request, new_key, read_request
from sparekey.runtime.startup import StartupRefused

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca", "Test", NOW)


def test_private_keys_are_for_their_owner_only(authority: Authority) -> None:
    for name, mode in ((ROOT, 0o644), (ROOT_KEY, 0o600), (ISSUING, 0o600)):
        assert (authority.folder / name).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("name", [ROOT_KEY, ISSUING])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601])
def test_a_private_key_that_others_may_read_is_refused(
    authority: Authority, name: str, mode: int
) -> None:
    (authority.folder / name).chmod(mode)
    with pytest.raises(StartupRefused, match="chmod 600"):
        Authority(authority.folder)


def test_the_roots_key_may_be_kept_elsewhere(authority: Authority) -> None:
    (authority.folder / ROOT_KEY).unlink()
    issued = Authority(authority.folder).issue(new_key().public_key(), SvmIdentity("a"), DAY, NOW)
    assert issued.expires_at == NOW + DAY
    with pytest.raises(StartupRefused, match="root's private key"):
        rotate_issuing(authority.folder, NOW)


def test_a_certificate_carries_one_identity_and_no_name(authority: Authority) -> None:
    identity = SvmIdentity("svm-1")
    issued = authority.issue(new_key().public_key(), identity, DAY, NOW)
    certificate = x509.load_pem_x509_certificate(issued.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    assert len(list(names.value)) == 1
    assert parse_identity(uris) == identity
    assert not certificate.subject.rdns
    assert f"{certificate.serial_number:X}" == issued.serial
    assert issued.renew_after == NOW + DAY / 2


def test_a_certificate_ends_no_later_than_its_issuer(authority: Authority) -> None:
    issued = authority.issue(new_key().public_key(), SvmIdentity("a"), timedelta(days=4000), NOW)
    assert issued.expires_at == authority.issuing.not_valid_after_utc


def test_a_rotation_is_followed_by_an_authority_that_is_open(authority: Authority) -> None:
    before = authority.issuing.serial_number
    root = authority.root
    rotate_issuing(authority.folder, NOW + DAY)
    assert authority.issuing.serial_number != before
    assert (authority.folder / ROOT).read_bytes() == root
    issued = authority.issue(new_key().public_key(), SvmIdentity("a"), DAY, NOW + DAY)
    leaf, issuing = x509.load_pem_x509_certificates(issued.chain)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(x509.load_pem_x509_certificate(root))


def test_an_authority_is_not_made_twice_and_not_found_where_there_is_none(
    authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(StartupRefused, match="already"):
        create_authority(authority.folder, "Test", NOW)
    with pytest.raises(StartupRefused, match="sparekey ca init"):
        Authority(tmp_path / "nothing")


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["sparekey://svm/A"],
        ["sparekey://svm/a/b"],
        ["sparekey://svm/a\n"],
        ["sparekey://operator/emperor/a"],
        ["sparekey://operator/admin/"],
        ["sparekey://svm/a", "sparekey://svm/b"],
        ["sparekey://svm/a", "sparekey://operator/admin/a"],
    ],
)
def test_what_is_not_one_identity_is_none(uris: list[str]) -> None:
    assert parse_identity(uris) is None


def test_other_uris_do_not_disturb() -> None:
    uris = ["spiffe://domain/x", "sparekey://operator/viewer/a.b@c"]
    assert parse_identity(uris) == OperatorIdentity("viewer", "a.b@c")


def _signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_only_a_signed_request_for_a_p256_key_is_followed() -> None:
    key = new_key()
    good = make_request(key)
    assert read_request(good) == key.public_key()
    with pytest.raises(InvalidRequest, match="not signed"):
        read_request(good[:-1] + bytes([good[-1] ^ 1]))
    for other in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(InvalidRequest, match="P-256"):
            read_request(_signed(other))
    other_version = good.replace(b"\x02\x01\x00", b"\x02\x01\x7f", 1)
    for rubbish in (other_version, b"", b"\x30\x03\x02\x01\x00", good[:40], good + b"x"):
        with pytest.raises(InvalidRequest):
            read_request(rubbish)
