"""The agents' link: from Hello to the end of each stream."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from sparekey.runtime.clock import Clock, SettableClock
from sparekey.server.link import frames
from sparekey.server.link.clock_skew import ClockSkews, SkewChange
from sparekey.server.link.pusher import Pusher
from sparekey.server.link.report_intake import Gathering, ReportIntake
from sparekey.server.link.reporting import Taken, take_hellos
from sparekey.server.link.sessions import SILENT_SPANS, LinkTiming, Session, Sessions
from sparekey.server.store.commits import Commit, CommitFeed
from sparekey.server.store.reader import Reader
from sparekey.server.store.svms import touch_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import Writer
from sparekey.v1 import agent_pb2, error_pb2, event_pb2
from sparekey.wire.callers import LOCAL_CALLER, Caller, Gate
from sparekey.wire.edge import Stream, shutting_down
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_timestamp

_log = structlog.get_logger()

_RETURNS_PER_SECOND = 200
"""How many agents a drain asks to come back in a second: about what handshakes allow."""

_BUSY_SPANS = 4
"""For so many spans more agents may wait to be told of their reports while the server is busy."""

_LIVELY_SPANS = 1.5
"""An agent heard within so many heartbeat spans is alive: a second one is a clone."""


class AgentLink:
    """All agents' streams of this server; belongs to one event loop."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        clock: Clock,
        feed: CommitFeed,
        *,
        randomness: random.Random,
        timing: LinkTiming | None = None,
    ) -> None:
        self.sessions = Sessions()
        self.timing = timing or LinkTiming()
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._randomness = randomness
        self._skews = ClockSkews(reader, writer, clock)
        self.pusher = Pusher(self.sessions, reader, writer, self.timing)
        self._gathering = Gathering(
            self.timing.report_gap.total_seconds(), self.timing.report_quiet.total_seconds()
        )
        # Reports that are on disk and whose agents have not been told so yet.
        self._to_tell: dict[Session, Taken] = {}
        self._something_to_tell = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._test_clock: agent_pb2.TestClockTime | None = None
        if isinstance(clock, SettableClock):
            self._test_clock = agent_pb2.TestClockTime(time=to_timestamp(clock.now()), setting=1)
        self._confirmed = asyncio.Event()
        # When agents were last heard of, as far as it is not written down yet.
        self._heard: dict[str, datetime] = {}
        feed.listen(lambda commit: self.pusher.wake(commit.instructed))
        feed.listen(lambda commit: self._skews.forget(commit.forgotten))

    async def load(self) -> None:
        """Read what is needed of the time before this start; before any due work is done."""
        await self._skews.load()

    def start(self) -> None:
        """Start pushing and watching over deadlines."""
        self._tasks = [
            asyncio.create_task(self.pusher.run()),
            asyncio.create_task(self._tell_accepted()),
            asyncio.create_task(self._sweep()),
        ]

    async def stop(self) -> None:
        """Ask every agent to come back later, spread over time, and end the streams."""
        self._draining = True
        sessions = list(self.sessions)
        spread = max(1.0, len(sessions) / _RETURNS_PER_SECOND)
        # All at once: one slow reader must not hold up the stop for the others.
        await asyncio.gather(*(self._drain(session, spread) for session in sessions))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._persist_seen(since=0)

    def cut(self, commit: Commit, gate: Gate) -> None:
        """End the streams of agents from whom a commit took the right to be here."""
        if commit.access:
            for session in self.sessions:
                try:
                    gate.admit_still(session.caller)
                except CallRefused as refused:
                    session.end(refused)

    async def _drain(self, session: Session, spread: float) -> None:
        retry_after = timedelta(seconds=1 + self._randomness.uniform(0, spread))
        try:
            async with asyncio.timeout(1):
                await session.send(frames.drain(retry_after))
        except Exception as error:  # noqa: BLE001 - a broken stream must not hold up the stop
            _log.debug("a drain met a closed stream", svm=session.svm_id, problem=str(error))
        session.end(shutting_down())

    async def serve(self, stream: Stream, caller: Caller = LOCAL_CALLER) -> None:
        """Serve one agent's stream until it ends.

        Raises:
            CallRefused: the agent broke the protocol, is a clone, or the server stops.
        """
        if self._draining:
            raise shutting_down()
        opening = await self._first_frame(stream, caller)
        session = Session(opening.hello, stream, self._loop_time(), caller)
        # Taken in before the hello is written down, so that no two streams of one
        # identity pass this point together.
        replaced = self.sessions.add(session)
        if replaced is not None:
            replaced.end(_replaced())
        intake = ReportIntake(session, self._writer, self._gathering, self._taken)
        try:
            await self._welcome(session, opening.hello)
            waiting = self._look_at_clock(session, intake, opening.hello)
            if waiting is not None:
                await waiting
            # Asked for once: to ask for the loop costs more than to ask it for the time.
            loop_time = asyncio.get_running_loop().time
            while (frame := stream.decode(await stream.receive())) is not None:
                assert isinstance(frame, agent_pb2.ConnectRequest)
                session.heard_at = loop_time()
                waiting = self._receive(session, intake, frame)
                if waiting is not None:
                    await waiting
            await intake.finish()
        except asyncio.CancelledError:
            if session.ending is None:
                raise
            # Of a cancelled handler the transport would tell the agent nothing.
            raise session.ending from None
        finally:
            intake.close()
            self.pusher.forget(session)
            session.has_ended()
            if self.sessions.remove(session):
                self._heard[session.svm_id] = self._clock.now()
                self._feed.publish(Commit(svms={session.svm_id}))
                self._confirmed.set()

    async def _first_frame(self, stream: Stream, caller: Caller) -> agent_pb2.ConnectRequest:
        try:
            async with asyncio.timeout(self.timing.hello_deadline.total_seconds()):
                frame = await stream.read()
        except TimeoutError:
            frame = None
        assert frame is None or isinstance(frame, agent_pb2.ConnectRequest)
        hello = frames.check_hello(frame)
        assert frame is not None
        frames.check_identity(hello, caller)
        await self._refuse_clone(hello)
        return frame

    async def _welcome(self, session: Session, hello: agent_pb2.Hello) -> None:
        taken: Taken = await self._writer.write(take_hellos, hello)
        test_clock = self._test_clock if session.follows_test_clock else None
        welcome = frames.welcome(taken, self.timing.heartbeat, self._clock.now(), test_clock)
        try:
            await session.send_first(welcome)
        except TimeoutError:
            # It leaves no room for a single frame, so it will hardly read this either.
            raise _silent() from None
        if taken.has_waiting:
            self.pusher.wake([session.svm_id])

    def _look_at_clock(
        self,
        session: Session,
        intake: ReportIntake,
        said: agent_pb2.Hello | agent_pb2.Report | agent_pb2.Heartbeat,
    ) -> Awaitable[None] | None:
        """Compare the local time that was said; what to wait for, if there is news of it."""
        # One that goes by the test clock is told the time; until then it lags behind.
        if session.follows_test_clock or not said.HasField("local_time"):
            return None
        change = self._skews.look(session.svm_id, said.local_time)
        return None if change is None else self._note_clock(intake, change)

    async def _note_clock(self, intake: ReportIntake, change: SkewChange) -> None:
        # A frame whose report is refused says nothing of its clock either.
        await intake.finish()
        await self._skews.note(change)

    async def _refuse_clone(self, hello: agent_pb2.Hello) -> None:
        other = self.sessions.get(hello.svm_id)
        if other is None or other.boot_id == hello.boot_id:
            return
        silent = self._loop_time() - other.heard_at
        if silent > _LIVELY_SPANS * self.timing.heartbeat.total_seconds():
            return  # the agent was restarted and its old stream has not noticed yet
        await self._writer.write(note_clone, hello.svm_id)
        raise CallRefused(
            error_pb2.ERROR_REASON_CLONED_AGENT,
            f"an agent of the SVM {hello.svm_id} is connected already; give a cloned SVM an id"
            " and a state folder of its own",
            metadata={"svm_id": hello.svm_id},
            retry_after=self.timing.heartbeat,
        )

    def _receive(
        self, session: Session, intake: ReportIntake, frame: agent_pb2.ConnectRequest
    ) -> Awaitable[None] | None:
        """Take a frame in; what to wait for before the next is read, which is seldom anything.

        Raises:
            CallRefused: the frame breaks the protocol or is not well formed.
        """
        match frame.WhichOneof("frame"):
            case "report":
                report = frame.report
                frames.check_report(report)
                intake.take(report)
                news = self._look_at_clock(session, intake, report)
                return intake.room() if news is None and intake.is_full else news
            case "heartbeat":
                return self._look_at_clock(session, intake, frame.heartbeat)
            case "test_clock_confirmation":
                session.confirmed_setting = frame.test_clock_confirmation.setting
                self._confirmed.set()
            case "hello":
                raise CallRefused(
                    error_pb2.ERROR_REASON_PROTOCOL_VIOLATION,
                    "Hello is for the first frame only; see the comments of AgentService",
                )
            case _:
                pass  # a frame of a newer release
        return None

    def _taken(self, session: Session, taken: Taken, answering: bool) -> None:
        if taken.full_report_wanted:
            session.send_soon(frames.full_report_wanted(taken))
        if answering:
            # Told a moment later: no agent waits for it, and one frame does for several answers.
            self._to_tell[session] = taken
            self._something_to_tell.set()
            self.pusher.answered(session, more=taken.has_waiting)
        else:
            # Other reports have gathered before they were written.
            self._to_tell.pop(session, None)
            session.send_soon(frames.report_accepted(taken))

    async def _tell_accepted(self) -> None:
        while True:
            await self._something_to_tell.wait()
            await self._quiet_moment()
            self._something_to_tell.clear()
            told, self._to_tell = self._to_tell, {}
            for session, taken in told.items():
                session.send_soon(frames.report_accepted(taken))

    async def _quiet_moment(self) -> None:
        """Leave the time to what somebody waits for, while much is to be written."""
        span = self.timing.accepted_within.total_seconds()
        await asyncio.sleep(span)
        for _ in range(_BUSY_SPANS):
            if not self._writer.backlog and not self.pusher.is_busy:
                return
            await asyncio.sleep(span)

    async def tell_time(self, now: datetime, *, patience: timedelta) -> int:
        """Tell following agents the test clock's time; return how many have confirmed.

        Agents that are silent for `patience` are not waited for any longer.
        """
        setting = self._test_clock.setting + 1 if self._test_clock else 1
        self._test_clock = agent_pb2.TestClockTime(time=to_timestamp(now), setting=setting)
        frame = agent_pb2.ConnectResponse(test_clock_time=self._test_clock)
        following = [one for one in self.sessions if one.follows_test_clock]
        await asyncio.gather(*(one.send(frame) for one in following), return_exceptions=True)

        def confirmed() -> int:
            return sum(one.confirmed_setting >= setting for one in following)

        def open_count() -> int:
            return sum(self.sessions.get(one.svm_id) is one for one in following)

        try:
            async with asyncio.timeout(patience.total_seconds()):
                while confirmed() < open_count():
                    self._confirmed.clear()
                    await self._confirmed.wait()
        except TimeoutError:
            _log.warning(
                "agents did not confirm the test clock", missing=open_count() - confirmed()
            )
        return confirmed()

    async def _sweep(self) -> None:
        reconciled = persisted = self._loop_time()
        while True:
            await asyncio.sleep(self.timing.sweep.total_seconds())
            now = self._loop_time()
            limit = SILENT_SPANS * self.timing.heartbeat.total_seconds()
            for session in self.sessions:
                if now - session.heard_at > limit:
                    session.end(_silent())
                elif session.has_outlived(time.time()):
                    session.end(_outlived())
            try:
                for stalled in self.pusher.overdue(now):
                    await self.pusher.mark_stalled(stalled)
                if now - reconciled >= self.timing.reconcile.total_seconds():
                    reconciled = now
                    await self.pusher.look_through()
                if now - persisted >= self.timing.persist_seen.total_seconds():
                    since, persisted = persisted, now
                    await self._persist_seen(since)
            except CallRefused as refused:
                # Deadlines must be looked at also while the storage takes nothing.
                _log.warning("the sweep could not write", problem=refused.message)

    async def _persist_seen(self, since: float) -> None:
        heard, self._heard = self._heard, {}
        for session in self.sessions:
            if session.heard_at >= since:
                heard[session.svm_id] = self._clock.now()
        if heard:
            await self._writer.write(note_seen, heard)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()


def _replaced() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_STREAM_REPLACED,
        "a newer stream of this agent has taken this one's place; keep one stream open",
    )


def _silent() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_AGENT_SILENT,
        f"the agent sent nothing for {SILENT_SPANS} heartbeat intervals; connect again",
    )


def _outlived() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_UNAUTHENTICATED,
        "the certificate is over; renew it and connect again",
    )


def note_clone(transaction: Transaction, svm_ids: Sequence[str]) -> list[None]:
    """Write down that a second agent of a connected SVM was refused."""
    for svm_id in svm_ids:
        transaction.add_event(
            event_pb2.EVENT_KIND_CLONE_REFUSED,
            "A second agent with this SVM's identity was refused: a cloned SVM?",
            actor="server",
            svm_id=svm_id,
        )
    return [None] * len(svm_ids)


def note_seen(transaction: Transaction, requests: Sequence[Mapping[str, datetime]]) -> list[None]:
    """Write down when agents were last heard of."""
    for heard in requests:
        touch_svms(transaction.connection, heard)
    return [None] * len(requests)
