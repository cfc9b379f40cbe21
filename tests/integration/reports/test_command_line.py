"""The command line's reports against a real server and a living fleet."""

from __future__ import annotations

import asyncio
import json

import pytest

from sparekey.cli.main import main
from sparekey.licensing.keys import KeyKind, KeyType

from .conftest import Installation


async def sparekey(
    installation: Installation, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """What the program prints; it must succeed."""
    capsys.readouterr()
    server = str(installation.server.address)
    exit_code = await asyncio.to_thread(main, ["--server", server, *words])
    captured = capsys.readouterr()
    assert exit_code == 0, captured.err
    return captured.out


async def test_a_fleet_is_reported_on_for_people(
    installation: Installation,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short, late = await installation.add_key(1, ends=30), await installation.add_key(2, ends=60)
    trial = await installation.add_key(3, KeyType.DESKTOP, kind=KeyKind.TRIAL, ends=20)
    spare = await installation.add_key(4, ends=365, units=10)
    for svm_id in ("svm-1", "svm-2", "svm-3", "svm-4", "svm-5"):
        await installation.connect(svm_id, cluster="east", servers=4)
    await installation.connect("svm-6", cluster="west", servers=2, desktops=7)
    await installation.activate(short, "svm-1", "svm-2", "svm-3", "svm-4", "svm-5", "svm-6")
    await installation.activate(trial, "svm-6")
    await installation.renew(late, "svm-1")

    text = await sparekey(installation, capsys, "forecast")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "6 of 6 SVMs will have guests without a usable key before 2030-04-01:" in text
    assert "22 server guests on 6 SVMs, the first on 2030-01-31T00:00:00Z" in text
    assert f"────────{'▒' * 16}" in text
    assert f"─────{'█' * 19}" in text
    assert "svm-2, svm-3 and 3 more" in " ".join(text.split())

    text = await sparekey(installation, capsys, "plan")
    assert f"sparekey renew {spare} --svm svm-2 --svm svm-6" in text
    assert (
        f"# by 2030-03-02T00:00:00Z, not before 2030-01-31T00:00:00Z\nsparekey renew {spare}"
        in text
    )
    assert "# buy key 2, commercial, server standard, for 12 units, then" in text
    assert "SERIAL-OF-KEY-3 --svm svm-6" in text
    assert "# by 2030-01-31T00:00:00Z" in text

    text = await sparekey(installation, capsys, "usage")
    (row,) = [line.split() for line in text.splitlines() if line.startswith(short)]
    assert row[:7] == [short, "server", "standard", "22", "100", "-", "78"]
    text = await sparekey(installation, capsys, "usage", "--holders", late)
    assert "reserve" in text

    text = await sparekey(installation, capsys, "explain", "svm-6")
    assert "svm-6 is in FULL mode: everything works. [R95]" in text
    assert "What comes, if nobody does anything" in text


async def test_reports_for_programs(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    serial = await installation.add_key(1, ends=400)
    await installation.connect("a", servers=1)
    await installation.activate(serial, "a")
    quiet = json.loads(await sparekey(installation, capsys, "forecast", "-o", "json"))
    assert (quiet["summary"]["gap_count"], quiet["gaps"]) == (0, [])
    supposing = ("--what-if", f"block:{serial}@30d", "--what-if", "add:a:40-desktops")
    supposed = json.loads(
        await sparekey(installation, capsys, "forecast", *supposing, "-o", "json")
    )
    assert [gap["reason"] for gap in supposed["gaps"]] == [
        "GAP_REASON_KEY_BLOCKED",
        "GAP_REASON_KEY_BLOCKED",
        "GAP_REASON_NO_KEY_FOR_CLASS",
    ]
    plan = json.loads(await sparekey(installation, capsys, "plan", *supposing, "-o", "json"))
    assert [key["type"] for key in plan["summary"]["keys"]] == [
        "KEY_TYPE_SERVER",
        "KEY_TYPE_DESKTOP",
    ]
    told = json.loads(await sparekey(installation, capsys, "explain", "a", "-o", "json"))
    assert told["present"][0]["rules"] == ["R95"]
    text = await sparekey(installation, capsys, "plan")
    assert text.startswith("Nothing to do: there is no gap until 2030-04-01.")
