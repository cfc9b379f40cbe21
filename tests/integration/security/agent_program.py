"""The program `sparekey-agent` against a server with encryption."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from sparekey.runtime.startup import Address
from sparekey.testing.fleet.processes import AGENT, Program, start_program
from sparekey.v1 import fleet_pb2

INVENTORY = """
cluster: north
host: {uuid: 6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20, processors: 2, cores: 32}
guests: {servers: 3, desktops: 2}
"""
SECONDS = 10.0


def start_agent(folder: Path, server: Address, vendor_keys: Path, *options: str) -> Program:
    """Start the agent of `svm-1` with its state in a folder."""
    folder.mkdir(exist_ok=True)
    inventory = folder / "inventory.yaml"
    inventory.write_text(INVENTORY)
    words = ["--server", str(server), "--state", str(folder / "state"), "--svm-id", "svm-1"]
    words += ["--vendor-keys", str(vendor_keys), "--inventory", f"file:{inventory}", *options]
    return start_program(AGENT, words, log=folder / "agent.log")


def until(holds: Callable[[], Any], within: float = 60.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.05)


def is_connected(fleet: Any, svm_id: str = "svm-1") -> bool:
    """Whether the server has the SVM's stream and its first report."""
    try:
        svm = fleet.GetSvm(fleet_pb2.GetSvmRequest(svm_id=svm_id), timeout=SECONDS).svm
    except grpc.RpcError:
        return False
    connected: bool = svm.link_state == fleet_pb2.LINK_STATE_CONNECTED
    return connected and svm.cluster == "north"
