"""A server and an agent that cannot write say so, lose nothing, and go on once they can."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from faults.small_disk import SmallDisk, limit_files, with_children

from sparekey.agent.keyring_file import KeyringFile
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import event_pb2, key_pb2
from sparekey.wire.errors import read_problem

from .site import PATIENCE, SIGNER, TRUSTED, Site, make_key

SVM = "svm-1"


async def test_a_server_that_cannot_write_refuses_with_a_reason_and_goes_on_later(
    site: Site,
) -> None:
    """With the writing in a process of its own, as the program has it."""
    before, refused, after = (make_key(number, timedelta(days=30)) for number in range(3))
    await site.add(before)
    pids = list(with_children(site.server.process.pid))
    assert len(pids) == 2
    limit_files(pids, 0)
    request = key_pb2.AddKeyRequest(key_file=SIGNER.sign(refused))
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await site.keys.AddKey(request, timeout=PATIENCE)
        problem = read_problem(caught.value)
        assert (problem.reason, problem.code) == (
            "STORAGE_UNAVAILABLE",
            grpc.StatusCode.UNAVAILABLE,
        )
    # What can be had without writing is there all the while.
    listed = (await site.keys.ListKeys(key_pb2.ListKeysRequest(), timeout=PATIENCE)).keys
    assert [one.serial for one in listed] == [before.serial]
    limit_files(pids, None)
    await site.add(after)
    listed = (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    assert {one.serial for one in listed} == {before.serial, after.serial}


async def test_an_agent_on_a_full_disk_follows_nothing_until_there_is_room(
    site: Site, tmp_path: Path
) -> None:
    key = make_key(1, timedelta(days=30))
    await site.add(key)
    with SmallDisk(tmp_path / "disk", 1) as disk:
        if not disk.is_mounted:
            pytest.skip("no file system may be mounted here")
        async with SimulatedFleet(site.server.address, TRUSTED) as fleet:
            svm = make_svm(SVM, servers=3)
            svm.storage = KeyringFile(disk.folder)
            await fleet.start([svm])
            disk.fill([])
            task = await site.activate(key, SVM)
            # The server sends again what got no answer, and says so after the third time.
            await site.event_of(event_pb2.EVENT_KIND_PUSH_STALLED, svm_id=SVM)
            assert svm.running_agent.keeper.revision == 0
            assert not await site.events(event_pb2.EVENT_KIND_KEYRING_CHANGED)
            disk.free([])
            async with asyncio.timeout(PATIENCE):
                await site.event_of(event_pb2.EVENT_KIND_TASK_FINISHED, task_id=task.task_id)
        record = KeyringFile(disk.folder).load(TRUSTED)
        assert [held.key.serial for held in record.keyring.slots.values()] == [key.serial]
