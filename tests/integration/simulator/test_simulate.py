"""The simulator as a program, beside a real server."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.key_files import encode_public_key
from sparekey.runtime.startup import StartupRefused
from sparekey.testing.fleet.processes import ProgramFailed, running, start_server
from sparekey.testing.fleet.steered import SteeredFleet
from sparekey.testing.simulator.cast import read_cast
from sparekey.testing.simulator.mix import parse_mix

PATIENCE = 30.0
COMMAND = [sys.executable, "-m", "sparekey.testing.simulator.main"]


def test_a_fleet_connects_and_changes_and_is_counted(tmp_path: Path) -> None:
    vendor_keys = tmp_path / "vendor-keys.json"
    public_key = Ed25519PrivateKey.generate().public_key()
    vendor_keys.write_text(json.dumps({"test": encode_public_key(public_key)}))
    server = start_server(tmp_path / "server", vendor_keys)
    with running(server):
        options = ["--server", str(server.address), "--vendor-keys", str(vendor_keys)]
        options.extend(("--svms", "30", "--churn", "2000", "--seconds", "4", "--output", "json"))
        done = subprocess.run(
            [*COMMAND, *options], capture_output=True, text=True, timeout=60, check=True
        )
    counters = json.loads(done.stdout)
    assert counters["svms"] == 30
    assert counters["connected"] >= 20, "but for those that are just restarting"
    assert counters["guest_changes"] > 0
    assert counters["with_active_key"] == 0


def test_a_steered_fleet_does_what_it_is_told_and_keeps_its_keyrings(tmp_path: Path) -> None:
    vendor_keys = tmp_path / "vendor-keys.json"
    public_key = Ed25519PrivateKey.generate().public_key()
    vendor_keys.write_text(json.dumps({"test": encode_public_key(public_key)}))
    cast = tmp_path / "cast.json"
    cast.write_text(json.dumps([{"svm_id": "one", "servers": 3}, {"svm_id": "two"}]))
    options = ["--cast", str(cast), "--state", str(tmp_path / "state"), "--quick"]
    server = start_server(tmp_path / "server", vendor_keys)
    with running(server):
        fleet = SteeredFleet(options, log=tmp_path / "fleet.log")
        with running(fleet.program):
            with pytest.raises(ProgramFailed, match="has not joined a server"):
                fleet.cut("one")
            fleet.join(server.address, vendor_keys)
            assert fleet.states() == {
                "one": (True, 0, (3, 0, 0)),
                "two": (True, 0, (0, 0, 0)),
            }
            # Written once the server has said that it took the first report.
            file = tmp_path / "state" / "one" / "keyring.json"
            deadline = time.monotonic() + PATIENCE
            while not file.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            fleet.cut("one")
            assert not fleet.states()["one"].connected
            fleet.bring_back("one")
            fleet.calm()
            assert fleet.states()["one"].connected
            with pytest.raises(ProgramFailed, match="no SVM three"):
                fleet.cut("three")
            assert fleet.stop() == 0


@pytest.mark.parametrize("text", ["[", "7", "[{}]", '[{"svm_id": "one", "cats": 3}]'])
def test_a_cast_that_is_none_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "cast.json").write_text(text)
    with pytest.raises(StartupRefused, match="holds no SVMs"):
        read_cast(tmp_path / "cast.json")


@pytest.mark.parametrize("text", ["", "servers", "servers=x", "servers=0", "cats=3"])
def test_a_mix_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(StartupRefused):
        parse_mix(text)


def test_a_mix_gives_each_kind_its_guests() -> None:
    chance = random.Random(1)
    assert parse_mix("servers=1").guests(chance).desktops == 0
    assert parse_mix("desktops=1").guests(chance).servers == 0
    both: GuestMix = parse_mix("mixed=5").guests(chance)
    assert both.servers
    assert both.desktops
