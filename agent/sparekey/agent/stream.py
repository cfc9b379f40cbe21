"""One Connect stream, from Hello to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc
import grpc.aio
from structlog.typing import FilteringBoundLogger

from sparekey.agent.instructions_received import (
    read_instruction,
    refused_unread,
    result_message,
)
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.reports import Reports
from sparekey.agent.timing import Timing
from sparekey.runtime.clock import Clock, SettableClock
from sparekey.v1 import agent_pb2
from sparekey.wire.errors import CallProblem, read_problem
from sparekey.wire.timestamps import from_duration, from_timestamp, to_timestamp

Call = grpc.aio.StreamStreamCall[agent_pb2.ConnectRequest, agent_pb2.ConnectResponse]


@dataclass(frozen=True, slots=True)
class Introduction:
    """What an agent says of itself in each Hello."""

    svm_id: str
    boot_id: str
    agent_version: str
    follows_test_clock: bool


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended.

    Attributes:
        welcomed: Whether the server answered Hello.
        lasted: For how many seconds it worked, counted from Welcome.
        drained: Whether the server asked the agent to leave.
        at_least: How long to stay away at least, in seconds.
        problem: What went wrong; None for an orderly end.
    """

    welcomed: bool = False
    lasted: float = 0.0
    drained: bool = False
    at_least: float = 0.0
    problem: CallProblem | None = None


class _NoWelcome(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.problem = CallProblem(code, message)


class Stream:
    """Speaks the protocol of `agent.proto` over one call.

    `run` reads. What there is to tell is written by a task that lives until all of it is told, and
    there is never more than one: so no two frames are written at once, and a stream at rest costs
    a timer. The writer composes each frame when its turn comes: what happened while it was busy
    goes out in one report.
    """

    def __init__(
        self,
        call: Call,
        introduction: Introduction,
        keeper: KeyringKeeper,
        reports: Reports,
        clock: Clock,
        timing: Timing,
        connected: asyncio.Event,
        log: FilteringBoundLogger,
        *,
        time_known: bool,
    ) -> None:
        self._call = call
        self._introduction = introduction
        self._keeper = keeper
        self._reports = reports
        self._clock = clock
        self._timing = timing
        self._connected = connected
        self._log = log
        self.time_known = time_known
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Task[None] | None = None
        self._results: list[agent_pb2.SlotResult] = []
        self._confirmations: list[int] = []
        self._heartbeat_after = timing.heartbeat_interval * timing.heartbeat_share
        self._heartbeat: asyncio.TimerHandle | None = None
        self._heartbeat_due = False
        self._leaving = False
        self._opening: asyncio.Timeout | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._drained: timedelta | None = None
        self._welcomed_at: float | None = None

    def wake(self) -> None:
        """Have told what there is to tell, if anything."""
        if self._writing is None and self._welcomed_at is not None and self._has_more:
            self._writing = self._loop.create_task(self._write())

    def leave(self) -> None:
        """Say what is left to say and end the stream in good order, or soon in any order."""
        if self._leaving:
            return
        self._leaving = True
        if self._welcomed_at is not None:
            patience = self._timing.farewell_within
            self._farewell = self._loop.call_later(patience, self._call.cancel)
            self.wake()
        elif self._opening is not None and not self._opening.expired():
            # There is nothing to say and no one to wait for. To cancel the call would not do: a
            # first write that waits for the connection does not learn of it.
            self._opening.reschedule(self._loop.time())

    async def run(self) -> StreamEnd:
        """Open the stream and speak until it ends."""
        problem: CallProblem | None = None
        try:
            await self._open()
            self._rest()
            self.wake()
            while isinstance(frame := await self._call.read(), agent_pb2.ConnectResponse):
                self._handle(frame)
        except grpc.aio.AioRpcError as error:
            problem = read_problem(error)
        except _NoWelcome as error:
            problem = error.problem
        except asyncio.CancelledError:
            # Reading a call that we cancelled ourselves looks as if the task was cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        finally:
            self._connected.clear()
            self._call.cancel()
            for timer in (self._farewell, self._heartbeat):
                if timer is not None:
                    timer.cancel()
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.wait([self._writing])
        return StreamEnd(
            welcomed=self._welcomed_at is not None,
            lasted=self._lasted(),
            drained=self._drained is not None,
            at_least=self._at_least(problem),
            problem=problem,
        )

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._timing.welcome_within) as self._opening:
                await self._call.write(self._hello())
                frame: Any = await self._call.read()
        except TimeoutError:
            raise _NoWelcome(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the server did not answer Hello in time"
            ) from None
        if not isinstance(frame, agent_pb2.ConnectResponse) or not frame.HasField("welcome"):
            raise _NoWelcome(grpc.StatusCode.UNKNOWN, "the server answered Hello without Welcome")
        self._welcomed_at = self._loop.time()
        self._follow_welcome(frame.welcome)
        self._connected.set()
        self._log.info("the server welcomed the agent")

    def _hello(self) -> agent_pb2.ConnectRequest:
        keeper, introduction = self._keeper, self._introduction
        keeper.settle_now()
        return agent_pb2.ConnectRequest(
            hello=agent_pb2.Hello(
                svm_id=introduction.svm_id,
                boot_id=introduction.boot_id,
                agent_version=introduction.agent_version,
                accepted_sequence=keeper.accepted_sequence,
                report_digest=self._reports.open_stream(),
                keyring_revision=keeper.revision,
                results=[result_message(result) for result in keeper.results.values()],
                local_time=to_timestamp(self._local_time()),
                follows_test_clock=introduction.follows_test_clock,
            )
        )

    def _follow_welcome(self, welcome: agent_pb2.Welcome) -> None:
        interval = from_duration(welcome.heartbeat_interval).total_seconds()
        if interval > 0:
            self._heartbeat_after = interval * self._timing.heartbeat_share
        self._keeper.accept(welcome.accepted_keyring_revision)
        if welcome.full_report_wanted:
            self._reports.want_whole(welcome.accepted_keyring_revision)
        if welcome.HasField("test_clock_time"):
            self._follow_test_clock(welcome.test_clock_time)

    def _handle(self, frame: agent_pb2.ConnectResponse) -> None:
        match frame.WhichOneof("frame"):
            case "push" if not self._leaving:  # else it could not be answered any more
                self._follow_push(frame.push)
            case "report_accepted":
                accepted = frame.report_accepted
                self._keeper.accept(accepted.accepted_keyring_revision, accepted.sequence)
            case "full_report_wanted":
                revision = frame.full_report_wanted.accepted_keyring_revision
                self._keeper.accept(revision)
                self._reports.want_whole(revision)
            case "drain":
                self._drained = from_duration(frame.drain.retry_after)
                self.leave()
            case "test_clock_time":
                self._follow_test_clock(frame.test_clock_time)
            case _:
                return  # of a kind that this release does not know
        self.wake()

    def _follow_push(self, push: agent_pb2.Push) -> None:
        known = []
        for message in push.instructions:
            instruction = read_instruction(message)
            if instruction is None:
                self._results.append(refused_unread(message))
            else:
                known.append(instruction)
        results = self._keeper.follow_push(known)
        self._results.extend(result_message(result) for result in results)

    def _follow_test_clock(self, time: agent_pb2.TestClockTime) -> None:
        if not self._introduction.follows_test_clock or not isinstance(self._clock, SettableClock):
            return
        self._clock.set(from_timestamp(time.time))
        self.time_known = True
        self._keeper.settle_now()
        self._confirmations.append(time.setting)

    @property
    def _has_more(self) -> bool:
        """Whether there is something to tell, or the stream to leave."""
        return bool(
            self._results
            or self._confirmations
            or self._heartbeat_due
            or self._leaving
            or self._reports.changed
        )

    async def _write(self) -> None:
        """Tell all that there is to tell."""
        try:
            while (frame := self._next_frame()) is not None:
                await self._call.write(frame)
            if self._leaving:
                await self._call.done_writing()
                return  # and nobody writes any more
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the stream has ended; the reader learns how
        except Exception:  # noqa: BLE001 - the reader must learn of it
            self._log.exception("a frame could not be written by a fault of ours")
            self._call.cancel()
            return
        self._writing = None
        self._rest()

    def _next_frame(self) -> agent_pb2.ConnectRequest | None:
        """The frame to write now, or None where all is told."""
        self._heartbeat_due, heartbeat_due = False, self._heartbeat_due
        results, self._results = self._results, []
        report = self._reports.next_report(results, self._local_time())
        if report is not None:
            return agent_pb2.ConnectRequest(report=report)
        # After what was due at that time is reported.
        if self._confirmations:
            confirmation = agent_pb2.TestClockConfirmation(setting=self._confirmations.pop(0))
            return agent_pb2.ConnectRequest(test_clock_confirmation=confirmation)
        if heartbeat_due:
            heartbeat = agent_pb2.Heartbeat(local_time=to_timestamp(self._local_time()))
            return agent_pb2.ConnectRequest(heartbeat=heartbeat)
        return None

    def _rest(self) -> None:
        """Speak again at the latest when the server expects a heartbeat."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._heartbeat = self._loop.call_later(self._heartbeat_after, self._beat)

    def _beat(self) -> None:
        self._heartbeat_due = True
        self.wake()

    def _local_time(self) -> datetime | None:
        # Before the first TestClockTime the clock says nothing.
        return self._clock.now() if self.time_known else None

    def _lasted(self) -> float:
        if self._welcomed_at is None:
            return 0.0
        return self._loop.time() - self._welcomed_at

    def _at_least(self, problem: CallProblem | None) -> float:
        asked = self._drained or (problem.retry_after if problem else None)
        return asked.total_seconds() if asked else 0.0
