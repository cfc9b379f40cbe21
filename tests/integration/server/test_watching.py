"""Watches: nothing is skipped, a cursor resumes, and a slow reader holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from sparekey.v1 import event_pb2, fleet_pb2, license_pb2

from .site import Site
from .words import PATIENCE, outcomes_of, refusal_of, state_of


@asynccontextmanager
async def watching(call: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """The messages of a watch, which ends with the block."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield aiter(call)
    finally:
        call.cancel()


async def test_a_watched_task_ends_with_its_task_and_tells_every_outcome(site: Site) -> None:
    await site.connect("svm-1", "svm-2", "offline")
    await site.disconnect("offline")
    task = await site.activate(await site.new_key())
    seen: dict[str, list[int]] = {}
    states = []
    request = license_pb2.WatchTaskRequest(task_id=task.task_id)
    async with watching(site.licenses.WatchTask(request)) as messages:
        async for message in messages:
            assert not message.task.outcomes
            states.append(state_of(message.task))
            for outcome in message.outcomes:
                seen.setdefault(outcome.svm_id, []).append(outcome.state)
            if message.task.counts.pending == 1 and not site.fleet.svms["offline"].agent:
                await site.reconnect("offline")
    assert states[-1] == "SUCCEEDED"
    assert states[:-1] == ["RUNNING"] * (len(states) - 1)
    applied = license_pb2.OUTCOME_STATE_APPLIED
    assert {svm_id: some[-1] for svm_id, some in seen.items()} == dict.fromkeys(
        ("svm-1", "svm-2", "offline"), applied
    )


async def test_a_finished_task_is_told_once_with_all_its_outcomes(site: Site) -> None:
    await site.connect("svm-1", "svm-2")
    task = await site.ended(site.activate(await site.new_key()))
    request = license_pb2.WatchTaskRequest(task_id=task.task_id)
    async with watching(site.licenses.WatchTask(request)) as messages:
        told = [message async for message in messages]
    assert len(told) == 1
    assert [one.svm_id for one in told[0].outcomes] == ["svm-1", "svm-2"]


@pytest.mark.parametrize("end", ["cancelled", "deadline", "superseded"])
async def test_a_watched_task_ends_whatever_ends_it(site: Site, end: str) -> None:
    await site.connect("svm-1")
    await site.disconnect("svm-1")
    task = await site.activate(await site.new_key(ends=60))
    request = license_pb2.WatchTaskRequest(task_id=task.task_id)
    async with watching(site.licenses.WatchTask(request)) as messages:
        first = await anext(messages)
        assert state_of(first.task) == "RUNNING"
        if end == "cancelled":
            await site.licenses.CancelTask(license_pb2.CancelTaskRequest(task_id=task.task_id))
        elif end == "deadline":
            await site.advance(7)
        else:
            await site.activate(await site.new_key())
        told = [message async for message in messages]
    assert state_of(told[-1].task) == state_of(await site.task(task)) != "RUNNING"


async def test_an_unknown_task_cannot_be_watched(site: Site) -> None:
    call = site.licenses.WatchTask(license_pb2.WatchTaskRequest(task_id="task-0"))
    assert (await refusal_of(anext(aiter(call)))).reason == "TASK_NOT_FOUND"


async def test_a_watched_fleet_is_told_whole_and_then_by_changes(site: Site) -> None:
    await site.connect("svm-1", "svm-2", cluster="a")
    async with watching(site.svms.WatchSvms(fleet_pb2.WatchSvmsRequest())) as messages:
        first = await anext(messages)
        assert first.caught_up
        assert [svm.svm_id for svm in first.svms] == ["svm-1", "svm-2"]
        await site.connect("svm-3")
        known = {svm.svm_id: svm for svm in first.svms}
        while "svm-3" not in known:
            known.update((svm.svm_id, svm) for svm in (await anext(messages)).svms)
        await site.fleet.stop([site.fleet.svms["svm-3"]])
        while known["svm-3"].link_state != fleet_pb2.LINK_STATE_OFFLINE:
            known.update((svm.svm_id, svm) for svm in (await anext(messages)).svms)
        await site.svms.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id="svm-3"))
        while "svm-3" not in (message := await anext(messages)).forgotten_svm_ids:
            assert message.caught_up


async def test_a_watch_of_one_cluster_tells_of_no_other(site: Site) -> None:
    await site.connect("a-1", cluster="a")
    await site.connect("b-1", cluster="b")
    request = fleet_pb2.WatchSvmsRequest(cluster="a")
    async with watching(site.svms.WatchSvms(request)) as messages:
        assert [svm.svm_id for svm in (await anext(messages)).svms] == ["a-1"]
        await site.ended(site.activate(await site.new_key()))
        seen: set[str] = set()
        while True:
            svms = (await anext(messages)).svms
            seen |= {svm.svm_id for svm in svms}
            if any(svm.keyring.keys for svm in svms):
                break
    assert seen == {"a-1"}


async def move(site: Site, svm_id: str, cluster: str) -> None:
    inventory = site.fleet.svms[svm_id].inventory
    inventory.set(replace(inventory.inventory, cluster=cluster))
    await site.until_svm(svm_id, lambda svm: svm.cluster == cluster)


async def test_a_watch_of_one_cluster_tells_who_leaves_it_and_comes_back(site: Site) -> None:
    await site.connect("mover", "stays", cluster="a")
    await site.connect("b-1", cluster="b")
    request = fleet_pb2.WatchSvmsRequest(cluster="a")
    told: list[fleet_pb2.WatchSvmsResponse] = []
    async with watching(site.svms.WatchSvms(request)) as messages:
        await anext(messages)
        # One that was never here is not told as leaving it.
        await move(site, "b-1", "c")
        for cluster in ("b", ""):
            await move(site, "mover", cluster)
            while "mover" not in (message := await anext(messages)).left_svm_ids:
                told.append(message)
            assert message.caught_up
            await move(site, "mover", "a")
            while "mover" not in {svm.svm_id for svm in message.svms}:
                message = await anext(messages)
                told.append(message)
    assert not [svm_id for one in told for svm_id in one.left_svm_ids]
    assert {svm.cluster for one in told for svm in one.svms} == {"a"}


async def test_a_watch_of_one_cluster_tells_of_its_own_forgotten_svms_only(site: Site) -> None:
    await site.connect("a-1", cluster="a")
    await site.connect("b-1", cluster="b")
    await site.disconnect("a-1", "b-1")
    request = fleet_pb2.WatchSvmsRequest(cluster="a")
    async with watching(site.svms.WatchSvms(request)) as messages:
        await anext(messages)
        for svm_id in ("b-1", "a-1"):
            await site.svms.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id=svm_id))
        assert list((await anext(messages)).forgotten_svm_ids) == ["a-1"]


async def test_a_watched_history_skips_nothing_and_keeps_the_order(site: Site) -> None:
    """Twelve tasks at once over five SVMs, watched from before and listed afterwards."""
    await site.connect(*(f"svm-{number}" for number in range(5)))
    keys = [await site.new_key(ends=30 + number) for number in range(12)]
    events: list[event_pb2.Event] = []
    async with watching(site.events.WatchEvents(event_pb2.WatchEventsRequest())) as messages:
        tasks = await asyncio.gather(*(site.activate(key) for key in keys))
        for task in tasks:
            await site.ended(site.task(task))
        whole = await site.history()
        async for message in messages:
            events.extend(message.events)
            if message.events:
                assert message.cursor == message.events[-1].cursor
            if message.cursor >= whole[-1].cursor:
                break
    assert events == whole
    cursors = [event.cursor for event in events]
    assert cursors == sorted(set(cursors))


async def test_a_watch_resumes_from_any_cursor(site: Site) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key())
    whole = await site.history()
    for event in whole:
        wanted = [one for one in whole if one.cursor > event.cursor]
        request = event_pb2.WatchEventsRequest(after_cursor=event.cursor)
        async with watching(site.events.WatchEvents(request)) as messages:
            assert (await anext(messages)).cursor == event.cursor
            if wanted:
                assert list((await anext(messages)).events) == wanted


async def test_a_watch_from_now_tells_what_comes(site: Site) -> None:
    await site.connect("svm-1")
    request = event_pb2.WatchEventsRequest(from_now=True)
    async with watching(site.events.WatchEvents(request)) as messages:
        start = await anext(messages)
        assert not start.events
        assert start.cursor == (await site.history())[-1].cursor
        key = await site.new_key()
        (event,) = (await anext(messages)).events
        assert (event.kind, event.key_serial) == (event_pb2.EVENT_KIND_KEY_ADDED, key.serial)


async def test_a_watch_tells_only_what_was_asked_for(site: Site) -> None:
    await site.connect("svm-1", "svm-2")
    request = event_pb2.WatchEventsRequest(
        svm_id="svm-2", kinds=[event_pb2.EVENT_KIND_KEYRING_CHANGED]
    )
    async with watching(site.events.WatchEvents(request)) as messages:
        assert not (await anext(messages)).events
        keys = [await site.new_key(ends=30 + number) for number in range(3)]
        for key in keys:
            await site.ended(site.activate(key))
        seen: list[event_pb2.Event] = []
        while len(seen) < len(keys):
            seen.extend((await anext(messages)).events)
    assert [(event.svm_id, event.key_serial) for event in seen] == [
        ("svm-2", key.serial) for key in keys
    ]


async def test_a_slow_reader_misses_nothing_and_holds_nobody_up(site: Site) -> None:
    """It reads nothing until all has happened; its window is long full by then."""
    await site.connect(*(f"svm-{number}" for number in range(20)))
    watch = site.events.WatchEvents(event_pb2.WatchEventsRequest())
    fleet = site.svms.WatchSvms(fleet_pb2.WatchSvmsRequest())
    async with watching(watch) as messages, watching(fleet) as svms:
        await anext(messages)
        await anext(svms)
        for number in range(12):
            task = await site.ended(site.activate(await site.new_key(ends=30 + number)))
            assert set(outcomes_of(task).values()) == {"APPLIED"}
        whole = await site.history()
        events: list[event_pb2.Event] = []
        while len(events) < len(whole):
            events.extend((await anext(messages)).events)
        assert events == whole
        newest: dict[str, fleet_pb2.Svm] = {}
        while len([svm for svm in newest.values() if svm.keyring.revision == 12]) < 20:
            newest.update((svm.svm_id, svm) for svm in (await anext(svms)).svms)


async def test_a_caller_that_goes_away_ends_its_watch(site: Site) -> None:
    before = len(site.server._feed._listeners)
    call = site.events.WatchEvents(event_pb2.WatchEventsRequest())
    async with watching(call) as messages:
        await anext(messages)
        assert len(site.server._feed._listeners) == before + 1
    async with asyncio.timeout(PATIENCE):
        while len(site.server._feed._listeners) > before:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.002)


async def test_a_server_that_stops_ends_its_watches(site: Site) -> None:
    call = site.events.WatchEvents(event_pb2.WatchEventsRequest())
    messages = aiter(call)
    await anext(messages)
    await site.server.stop()
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(messages)
    await site.start()
