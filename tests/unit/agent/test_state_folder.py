"""Who the agent is, whom it trusts, and that it is alone in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.agent.state_folder import id_of_host, locked_folder, settle_svm_id, settle_trust
from sparekey.licensing.key_files import encode_public_key
from sparekey.runtime.startup import StartupRefused


def public_key(seed: int) -> str:
    return encode_public_key(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key())


def test_one_agent_a_folder(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "new" / "state") as folder:
        assert folder.is_dir()
        with (
            pytest.raises(StartupRefused, match="another agent works in the state folder"),
            locked_folder(folder),
        ):
            pass
    with locked_folder(folder):
        pass


@pytest.mark.parametrize(
    ("host", "svm_id"),
    [
        ("svm-17", "svm-17"),
        ("SVM_17.site-a.example", "svm-17"),
        ("--a--b--", "a-b"),
        ("x" * 70, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
        ("ö", ""),
        ("", ""),
    ],
)
def test_an_id_from_the_hosts_name(host: str, svm_id: str) -> None:
    assert id_of_host(host) == svm_id


def test_the_id_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Host_1.example")
    assert settle_svm_id(tmp_path, None) == "host-1"
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    assert settle_svm_id(tmp_path, None) == "host-1"
    assert settle_svm_id(tmp_path, "host-1") == "host-1"
    with pytest.raises(StartupRefused, match="belongs to the SVM host-1"):
        settle_svm_id(tmp_path, "host-2")


@pytest.mark.parametrize("wanted", ["", "Upper", "a_b", "-a", "a-", "x" * 64, "a\n"])
def test_a_malformed_id_is_refused(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(StartupRefused, match="is not an SVM id"):
        settle_svm_id(tmp_path, wanted)


def test_a_host_without_a_usable_name_needs_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "___")
    with pytest.raises(StartupRefused, match="--svm-id"):
        settle_svm_id(tmp_path, None)
    (tmp_path / "svm-id").write_text("NOT ONE")
    with pytest.raises(StartupRefused, match="holds no SVM id"):
        settle_svm_id(tmp_path, None)


def test_R80_the_vendor_keys_are_pinned_at_the_first_start(tmp_path: Path) -> None:
    given = tmp_path / "vendor.json"
    state = tmp_path / "state"
    state.mkdir()
    with pytest.raises(StartupRefused, match="--vendor-keys"):
        settle_trust(state, None)
    given.write_text(json.dumps({"vendor": public_key(1)}))
    settle_trust(state, given)
    assert (state / "vendor-keys.json").stat().st_mode & 0o777 == 0o600
    settle_trust(state, given)
    given.unlink()
    settle_trust(state, None)
    given.write_text(json.dumps({"vendor": public_key(2)}))
    with pytest.raises(StartupRefused, match="differs from the vendor keys pinned"):
        settle_trust(state, given)
    assert json.loads((state / "vendor-keys.json").read_text()) == {"vendor": public_key(1)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("[]", "holds no vendor keys"),
        ("{}", "holds no vendor keys"),
        ('{"vendor": 1}', "holds no vendor keys"),
        ('{"vendor": "abc"}', "cannot be used"),
        ('{"Vendor": ""}', "cannot be used"),
    ],
)
def test_a_file_without_vendor_keys_is_refused_and_not_pinned(
    tmp_path: Path, text: str, problem: str
) -> None:
    given = tmp_path / "vendor.json"
    given.write_text(text)
    with pytest.raises(StartupRefused, match=problem):
        settle_trust(tmp_path, given)
    assert not (tmp_path / "vendor-keys.json").exists()
