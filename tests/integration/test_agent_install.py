"""The agent's own install: small, without a database, and it runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import encode_public_key
from sparekey.testing.fleet.processes import start_server
from sparekey.v1 import event_pb2, event_pb2_grpc

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent


def run(*command: object) -> str:
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def agent_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the base install alone, from a wheel of this tree."""
    folder = tmp_path_factory.mktemp("agent-install")
    tree = folder / "tree"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", "*_pb2*", "tests")
    shutil.copytree(ROOT, tree, ignore=ignored)
    subprocess.run(
        [TOOLS / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=tree,
        check=True,
        capture_output=True,
        env={"PATH": f"{TOOLS}:/usr/bin:/bin"},
    )
    environment = folder / "environment"
    run(TOOLS / "uv", "venv", "--python", sys.executable, environment)
    wheel = next(folder.glob("*.whl"))
    constraints = ROOT / "constraints.txt"
    python = environment / "bin" / "python"
    run(TOOLS / "uv", "pip", "install", "--python", python, "-c", constraints, wheel)
    return environment


def test_the_agents_install_holds_no_database(agent_environment: Path) -> None:
    python = agent_environment / "bin" / "python"
    listed = json.loads(run(TOOLS / "uv", "pip", "list", "--python", python, "--format", "json"))
    names = {package["name"].lower() for package in listed}
    assert "sparekey" in names
    assert not names & {"sqlalchemy", "alembic", "uvloop", "pydantic-settings"}


def test_the_agents_install_runs_the_agent(agent_environment: Path, tmp_path: Path) -> None:
    public_key = encode_public_key(Ed25519PrivateKey.generate().public_key())
    vendor_keys = tmp_path / "vendor-keys.json"
    vendor_keys.write_text(json.dumps({"vendor": public_key}))
    inventory = tmp_path / "inventory.json"
    host = {"uuid": "6f1c2b1e-7a0d-4c55-9a43-0a4f5c0d9e11", "processors": 2, "cores": 16}
    content = {"cluster": "north", "host": host, "guests": {"servers": 3}}
    inventory.write_text(json.dumps(content))
    server = start_server(tmp_path / "server", vendor_keys)
    agent = subprocess.Popen(
        [
            str(agent_environment / "bin" / "sparekey-agent"),
            *("--server", str(server.address), "--state", str(tmp_path / "svm")),
            *("--inventory", f"file:{inventory}", "--vendor-keys", str(vendor_keys)),
            *("--svm-id", "lean-svm"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(str(server.address)) as channel:
            events = event_pb2_grpc.EventServiceStub(channel).WatchEvents(
                event_pb2.WatchEventsRequest(svm_id="lean-svm"), timeout=30
            )
            seen: set[int] = set()
            while not seen >= {
                event_pb2.EVENT_KIND_SVM_REGISTERED,
                event_pb2.EVENT_KIND_SVM_CHANGED,
            }:
                seen |= {event.kind for event in next(events).events}
            events.cancel()
    finally:
        agent.terminate()
        assert agent.wait(timeout=15) == 0
        assert server.stop() == 0
