"""The command line with certificates and tokens, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparekey.cli.main import main

from .secure_site import SecureSite, Shown

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(site: SecureSite, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; returns its exit code, its answer and its notes."""

    def go(*words: str, second: bool = False) -> tuple[int, str, str]:
        address = site.second if second else site.main
        root = str(site.folder / "ca" / "root.pem")
        code = main(["--server", str(address), "--ca-file", root, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


@pytest.fixture
def admin(site: SecureSite, tmp_path: Path) -> list[str]:
    return ["--certificate", str(_file(tmp_path / "admin.pem", site.admin))]


def _file(path: Path, shown: Shown) -> Path:
    assert shown.identity is not None
    path.write_bytes(shown.identity)
    path.chmod(0o600)
    return path


def _json(output: str) -> Any:
    return json.loads(output)


def test_a_token_is_made_used_and_revoked(run: Run, admin: list[str], tmp_path: Path) -> None:
    out = tmp_path / "bob.token"
    create = ["token", "create", "--name", "bob", "--role", "viewer", "--out", str(out)]
    code, said, _ = run(*admin, "--output", "json", *create)
    assert code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text().strip() not in said
    token = ["--token-file", str(out)]
    assert run(*token, "keys", "list", second=True)[0] == 0
    code, _, notes = run(*token, "token", "list", second=True)
    assert (code, "PERMISSION_DENIED" in notes) == (1, True)
    assert run(*admin, "token", "revoke", _json(said)["token_id"])[0] == 0
    code, _, notes = run(*token, "keys", "list", second=True)
    assert (code, "UNAUTHENTICATED" in notes) == (1, True)
    listed = _json(run(*admin, "--output", "json", "token", "list")[1])
    assert [one["name"] for one in listed if one["revoked_at"]] == ["bob"]


def test_a_token_is_bound_to_clusters(run: Run, admin: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "north.token")]
    create = ["token", "create", "--name", "north-team", "--role", "operator", *out]
    code, said, _ = run(*admin, "--output", "json", *create, "--cluster", "north")
    assert (code, _json(said)["clusters"]) == (0, ["north"])
    assert "north" in run(*admin, "token", "list")[1]


def test_a_join_token_is_shown_once(run: Run, admin: list[str]) -> None:
    code, said, _ = run(*admin, "join-token", "create", "--svm", "svm-cli")
    assert code == 0
    assert said.startswith("sparekey-join-")
    assert said.strip() not in run(*admin, "--output", "json", "token", "list")[1]
    code, said, notes = run(*admin, "join-token", "create", "--dry-run")
    assert (code, "sparekey-join-" in said, "dry run" in notes) == (0, False, True)


def test_an_svm_is_banned_and_let_in_again(run: Run, admin: list[str]) -> None:
    assert "svm-9 is banned" in run(*admin, "certificates", "ban", "svm-9")[1]
    assert "svm-9 is let in" in run(*admin, "certificates", "unban", "svm-9")[1]
    assert run(*admin, "certificates", "list")[0] == 0
    assert run(*admin, "certificates", "revoke", "ABCDEF")[0] == 0


def test_secrets_that_others_may_read_are_refused(
    run: Run, site: SecureSite, tmp_path: Path
) -> None:
    path = _file(tmp_path / "admin.pem", site.admin)
    path.chmod(0o644)
    for option in ("--certificate", "--token-file"):
        code, _, notes = run(option, str(path), "keys", "list")
        assert (code, "chmod 600" in notes) == (2, True)


def test_off_this_machine_nothing_is_sent_in_the_clear(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--server", "192.0.2.1:7443", "keys", "list"]) == 2
    assert "--ca-file" in capsys.readouterr().err


def test_an_authority_is_made_and_rotated_and_issues_an_operator(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = ["--folder", str(tmp_path / "ca")]
    assert main(["ca", "init", *folder]) == 0
    assert main(["ca", "init", *folder]) == 2
    assert main(["ca", "rotate", *folder]) == 0
    out = tmp_path / "alice.pem"
    operator = ["ca", "operator", *folder, "--name", "alice", "--out", str(out), "--role"]
    assert main([*operator, "emperor"]) == 2
    assert main([*operator, "admin"]) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr()
    assert "PRIVATE KEY" not in said.out + said.err
