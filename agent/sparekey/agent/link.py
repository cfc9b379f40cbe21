"""The link to the server: one stream after another, spread over time, for as long as it takes."""

from __future__ import annotations

import asyncio
import random

import grpc.aio
import structlog

from sparekey.agent.backoff import Backoff
from sparekey.agent.channels import ChannelFactory
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.reports import Reports
from sparekey.agent.stream import Introduction, Stream, StreamEnd
from sparekey.agent.timing import Timing
from sparekey.runtime.clock import Clock
from sparekey.runtime.startup import Address
from sparekey.v1 import agent_pb2_grpc

_CLONED = "CLONED_AGENT"
_log = structlog.get_logger()


class Link:
    """Keeps a stream to the server open and opens another when it ends, for whatever reason.

    Args:
        server: Where the server is.
        introduction: What the agent says of itself.
        keeper: The keyring's owner.
        reports: What is told, over all streams.
        clock: The SVM's time.
        randomness: For the waits between streams.
        timing: How long to wait for what.
        channel_factory: Makes the channels; each is closed here.
        connected: Set while the server has welcomed the agent.
    """

    def __init__(
        self,
        server: Address,
        introduction: Introduction,
        keeper: KeyringKeeper,
        reports: Reports,
        clock: Clock,
        randomness: random.Random,
        timing: Timing,
        channel_factory: ChannelFactory,
        connected: asyncio.Event,
    ) -> None:
        self._connected = connected
        self._server = server
        self._introduction = introduction
        self._keeper = keeper
        self._reports = reports
        self._clock = clock
        self._timing = timing
        self._channel_factory = channel_factory
        self._backoff = Backoff(timing, randomness)
        self._channel: grpc.aio.Channel | None = None
        self._stream: Stream | None = None
        self._left = False
        self._go_on = asyncio.Event()
        self._stale = False
        self._failures = 0
        self._lost = False
        self._time_known = not introduction.follows_test_clock
        self._log = _log.bind(svm_id=introduction.svm_id, server=str(server))

    def wake(self) -> None:
        """Have what changed reported, where a stream is open."""
        if self._stream is not None:
            self._stream.wake()

    def leave(self) -> None:
        """End the link in good order; `run` returns soon."""
        self._left = True
        self._go_on.set()
        if self._stream is not None:
            self._stream.leave()

    def renew_channel(self) -> None:
        """Go on over a new channel, at once and in good order: the certificate is another."""
        self._stale = True
        self._go_on.set()
        if self._stream is not None:
            self._stream.leave()

    async def run(self) -> None:
        """Keep the link until `leave`."""
        try:
            await self._pause(self._backoff.before_first_try())
            while not self._left:
                end = await self._one_stream()
                if self._left:
                    return
                if self._stale:
                    continue
                wait = self._wait_after(end)
                self._tell(end, wait)
                await self._renew_channel_if_useless(end)
                await self._pause(wait)
        finally:
            await self._drop_channel()

    async def _one_stream(self) -> StreamEnd:
        if self._stale:
            self._stale = False
            await self._drop_channel()
        self._go_on.clear()
        if self._channel is None:
            self._channel = self._channel_factory(self._server)
        stub: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(self._channel)
        stream = self._stream = Stream(
            stub.Connect(),
            self._introduction,
            self._keeper,
            self._reports,
            self._clock,
            self._timing,
            self._connected,
            self._log,
            time_known=self._time_known,
        )
        try:
            return await stream.run()
        except Exception:  # noqa: BLE001 - whatever a server sends, the agent must outlast it
            self._log.exception("the stream failed by a fault of ours")
            return StreamEnd()
        finally:
            self._stream = None
            self._time_known = stream.time_known

    def _wait_after(self, end: StreamEnd) -> float:
        if end.problem and end.problem.reason == _CLONED:
            return max(self._timing.backoff_cap, end.at_least)
        return self._backoff.after_stream(lasted=end.lasted, at_least=end.at_least)

    def _tell(self, end: StreamEnd, wait: float) -> None:
        """Log how a stream ended, loudly only where that is news."""
        news = end.welcomed or not self._lost
        self._lost = True
        if end.drained:
            self._log.info("the server asked the agent to come back later", wait_seconds=wait)
        elif end.problem and end.problem.reason == _CLONED:
            self._log.error(
                "another agent with this SVM id is connected, as after cloning an SVM; give one of"
                " the two an empty state folder and another --svm-id",
                reason=end.problem.reason,
                wait_seconds=wait,
            )
        else:
            (self._log.warning if news else self._log.debug)(
                "no link to the server; the SVM goes on by its keyring",
                problem=end.problem.message if end.problem else "the server ended the stream",
                wait_seconds=wait,
            )

    async def _renew_channel_if_useless(self, end: StreamEnd) -> None:
        self._failures = 0 if end.drained else 1 if end.welcomed else self._failures + 1
        if self._failures >= self._timing.failures_before_new_channel:
            self._failures = 0
            await self._drop_channel()

    async def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _pause(self, seconds: float) -> None:
        over = asyncio.get_running_loop().call_later(seconds, self._go_on.set)
        try:
            await self._go_on.wait()
        finally:
            over.cancel()
