"""`sparekey-agent` as a process of its own, beside a server process: clones, and life offline."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from faults.proxy import Proxy

from sparekey.agent.keyring_file import KeyringFile
from sparekey.runtime.startup import Address
from sparekey.testing.fleet.processes import AGENT, Program, start_program
from sparekey.v1 import event_pb2, keyring_pb2
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import from_timestamp

from .site import TRUSTED, RawAgent, Site, make_key, until

SVM = "svm-1"
INVENTORY = """
cluster: north
host: {uuid: 6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20, processors: 2, cores: 32}
guests: {servers: 3, desktops: 0}
"""


@contextmanager
def agent_program(server: Address, state: Path, vendor_keys: Path) -> Iterator[Program]:
    """A running `sparekey-agent`; the id is asked for at its first start only."""
    inventory = state.with_suffix(".yaml")
    inventory.write_text(INVENTORY)
    options = ["--server", str(server), "--state", str(state), "--log-json"]
    options.extend(("--inventory", f"file:{inventory}"))
    if not state.exists():
        options.extend(("--vendor-keys", str(vendor_keys), "--svm-id", SVM))
    program = start_program(AGENT, options, log=state.with_suffix(".log"))
    try:
        yield program
    finally:
        program.stop()


async def test_a_second_agent_from_a_copied_state_folder_is_refused_with_its_reason(
    site: Site, tmp_path: Path
) -> None:
    with ExitStack() as programs:
        original = agent_program(site.server.address, tmp_path / "original", site.vendor_keys)
        await asyncio.to_thread(programs.enter_context, original)
        await site.event_of(event_pb2.EVENT_KIND_SVM_CHANGED, svm_id=SVM)
        shutil.copytree(tmp_path / "original", tmp_path / "copy")
        copied = agent_program(site.server.address, tmp_path / "copy", site.vendor_keys)
        second = await asyncio.to_thread(programs.enter_context, copied)
        event = await site.event_of(event_pb2.EVENT_KIND_CLONE_REFUSED, svm_id=SVM)
        assert "second agent with this SVM's identity was refused" in event.message
        # The typed reason, as the agent read it from the wire.
        log = tmp_path / "copy.log"
        await until(lambda: '"reason": "CLONED_AGENT"' in log.read_text())
        # And as any other program reads it.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RawAgent(site, SVM, "boot-of-a-copy").hello()
        problem = read_problem(caught.value)
        assert (problem.code, problem.reason, problem.metadata) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "CLONED_AGENT",
            {"svm_id": SVM},
        )
        assert problem.retry_after is not None
        assert second.process.poll() is None, "it goes on by its keyring, and tries again"
        # The first one's link is as it was.
        key = make_key(1, timedelta(days=30))
        await site.add(key)
        task = await site.activate(key, SVM)
        await site.event_of(event_pb2.EVENT_KIND_TASK_FINISHED, task_id=task.task_id)
    assert held_in(tmp_path / "original") == [key.serial]
    assert held_in(tmp_path / "copy") == []


async def test_R11_R87_an_agent_offline_for_its_keys_expiry_promotes_and_tells_the_true_instant(
    site: Site, tmp_path: Path
) -> None:
    async with Proxy(site.server.address) as proxy:
        with ExitStack() as programs:
            program = agent_program(proxy.address, tmp_path / "state", site.vendor_keys)
            await asyncio.to_thread(programs.enter_context, program)
            await site.event_of(event_pb2.EVENT_KIND_SVM_CHANGED, svm_id=SVM)
            active, reserve = make_key(1, timedelta(seconds=6)), make_key(2, timedelta(days=30))
            await site.add(active, reserve)
            await site.activate(active, SVM)
            await site.renew(reserve, SVM)
            await site.event_of(event_pb2.EVENT_KIND_KEYRING_CHANGED, key_serial=reserve.serial)
            proxy.refuses = True
            for connection in tuple(proxy.connections):
                connection.cut()
            await until(lambda: held_in(tmp_path / "state") == [reserve.serial])
            assert active.expires_at is not None
            late = datetime.now(UTC) - active.expires_at
            assert timedelta() <= late < timedelta(seconds=5), "with no server, and on time"
            told = await site.events(event_pb2.EVENT_KIND_KEYRING_CHANGED)
            assert len(told) == 2, "the server cannot know yet"
            proxy.refuses = False
            event = await site.event_of(
                event_pb2.EVENT_KIND_KEYRING_CHANGED, key_serial=reserve.serial, task_id=""
            )
    assert event.change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED
    assert from_timestamp(event.occurred_at) == active.expires_at
    assert from_timestamp(event.change.changed_at) == active.expires_at
    assert from_timestamp(event.recorded_at) > active.expires_at


def held_in(state: Path) -> list[str]:
    """What the keyring on an agent's disk holds."""
    record = KeyringFile(state).load(TRUSTED)
    return [held.key.serial for held in record.keyring.slots.values()]
