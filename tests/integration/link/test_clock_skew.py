"""An SVM whose clock is wrong is told of, once (R82)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc

from sparekey.v1 import agent_pb2, event_pb2, fleet_pb2, fleet_pb2_grpc
from sparekey.wire.timestamps import to_timestamp

from .site import PATIENCE, RawAgent, Site

SKEW = event_pb2.EVENT_KIND_CLOCK_SKEW
RIGHT = timedelta()


def local_time(ahead: timedelta) -> agent_pb2.Heartbeat:
    return agent_pb2.Heartbeat(local_time=to_timestamp(datetime.now(UTC) + ahead))


async def beat(agent: RawAgent, ahead: timedelta) -> None:
    await agent.call.write(agent_pb2.ConnectRequest(heartbeat=local_time(ahead)))


async def test_R82_a_clock_that_differs_is_told_once_for_each_change_of_state(site: Site) -> None:
    ahead = timedelta(minutes=6)
    agent = RawAgent(site, "svm-1")
    await agent.hello(local_time=local_time(ahead).local_time)
    first = await site.event_of(SKEW, svm_id="svm-1")
    assert "ahead of" in first.message
    await beat(agent, ahead)
    agent.call.cancel()
    # Another stream, so that the first one's end does not matter; the state is on disk.
    back = RawAgent(site, "svm-1")
    await back.hello(local_time=local_time(ahead).local_time)
    await beat(back, timedelta(minutes=4))
    await site.event_of(SKEW, message="The SVM's clock agrees with the server's again.")
    await beat(back, RIGHT)
    await beat(back, -ahead)
    events = await _first_three(site)
    assert [("ahead" in one.message, "behind" in one.message) for one in events] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    back.call.cancel()


async def test_R82_a_clock_that_differs_is_told_anew_of_an_svm_that_was_forgotten(
    site: Site,
) -> None:
    ahead = timedelta(days=2)
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(site.channel)
    for times in (1, 2):
        agent = RawAgent(site, "svm-1")
        await agent.hello(local_time=local_time(ahead).local_time)
        async with asyncio.timeout(PATIENCE):
            while len(await site.events(SKEW)) < times:
                await beat(agent, ahead)
        await agent.call.done_writing()
        assert await agent.call.code() is grpc.StatusCode.OK
        await fleet.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id="svm-1"))


async def _first_three(site: Site) -> list[event_pb2.Event]:
    watch = site.history.WatchEvents(event_pb2.WatchEventsRequest(kinds=[SKEW]))
    seen: list[event_pb2.Event] = []
    async with asyncio.timeout(PATIENCE):
        async for response in watch:
            seen.extend(response.events)
            if len(seen) >= 3:
                break
    watch.cancel()
    return seen
