"""The agents' open streams, one for each SVM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import grpc.aio
import structlog

from sparekey.v1 import agent_pb2
from sparekey.wire.callers import LOCAL_CALLER, Caller
from sparekey.wire.edge import Stream


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """How patient the link is; all spans are of the machine's own time.

    Attributes:
        heartbeat: How long an agent may be silent; after three such spans it
            counts as offline.
        hello_deadline: How long a new stream may wait with its Hello.
        push_deadline: How long an SVM may take to answer a push.
        push_patience: How long SVMs that do not answer hold up the pushes to others.
        reconcile: How often everything that waits is looked through.
        persist_seen: How often the times at which agents were heard are written.
        sweep: How often deadlines are looked at.
        accepted_within: How soon an agent is told that its report is on disk; up to five
            such spans while there is much to write.
        report_gap: How soon after one write of a stream's reports the next may
            begin, where nothing in them is urgent.
        report_quiet: After so long without a frame a stream's reports are written
            before that, though not twice in a row.
    """

    heartbeat: timedelta = timedelta(seconds=30)
    hello_deadline: timedelta = timedelta(seconds=10)
    push_deadline: timedelta = timedelta(seconds=15)
    push_patience: timedelta = timedelta(milliseconds=200)
    reconcile: timedelta = timedelta(minutes=3)
    persist_seen: timedelta = timedelta(seconds=60)
    sweep: timedelta = timedelta(seconds=1)
    accepted_within: timedelta = timedelta(seconds=1)
    report_gap: timedelta = timedelta(seconds=1)
    report_quiet: timedelta = timedelta(milliseconds=50)


SILENT_SPANS = 3
"""After so many heartbeat spans of silence an agent counts as offline."""

FIRST_FRAME_WITHIN = timedelta(seconds=10)
"""How long a client may leave no room for the first frame."""

STALLED_AFTER = 3
"""After so many pushes without an answer an SVM counts as stalled."""


_log = structlog.get_logger()


class Session:
    """One agent's stream.

    Attributes:
        svm_id: The SVM.
        boot_id: Tells one start of the agent from another.
        heard_at: When the last frame came, by the loop's time.
        pushed_version: The highest instruction version sent and not yet due again.
        push_due_at: By when the push must be answered, or None.
        misses: Pushes in a row without an answer.
        follows_test_clock: Whether the agent takes its time from the test clock.
        confirmed_setting: The last test clock setting that it confirmed.
        ending: Why the server ends it, for the agent to be told; None while it does not.
        caller: Who the agent is by its certificate.
    """

    __slots__ = (
        "_lock",
        "_outbox",
        "_sending",
        "_sends_first",
        "_stream",
        "_task",
        "boot_id",
        "caller",
        "confirmed_setting",
        "ending",
        "follows_test_clock",
        "heard_at",
        "misses",
        "push_due_at",
        "pushed_version",
        "svm_id",
    )

    def __init__(
        self,
        hello: agent_pb2.Hello,
        stream: Stream,
        heard_at: float,
        caller: Caller = LOCAL_CALLER,
    ) -> None:
        self.svm_id = hello.svm_id
        self.boot_id = hello.boot_id
        self.follows_test_clock = hello.follows_test_clock
        self.heard_at = heard_at
        self.pushed_version = 0
        self.push_due_at: float | None = None
        self.misses = 0
        self.confirmed_setting = 0
        self.ending: BaseException | None = None
        self.caller = caller
        self._stream = stream
        self._task: asyncio.Task[object] | None = asyncio.current_task()
        self._lock = asyncio.Lock()
        self._outbox: dict[str, agent_pb2.ConnectResponse] = {}
        self._sending: asyncio.Task[None] | None = None
        self._sends_first = False

    async def send(self, frame: agent_pb2.ConnectResponse) -> None:
        """Write one frame; frames from several tasks go out one after the other."""
        async with self._lock:
            await self._stream.write(frame)

    async def send_first(self, frame: agent_pb2.ConnectResponse) -> None:
        """Write the stream's first frame; an end that comes meanwhile waits for it.

        Half sent, the first frame leaves the transport no way to tell the agent of an end.

        Raises:
            BaseException: the stream was ended meanwhile; this is why.
        """
        self._sends_first = True
        try:
            async with asyncio.timeout(FIRST_FRAME_WITHIN.total_seconds()):
                await self.send(frame)
        finally:
            self._sends_first = False
        if self.ending is not None:
            raise self.ending

    def send_soon(self, frame: agent_pb2.ConnectResponse) -> None:
        """Write one frame without being waited for, so that a slow reader holds up nobody.

        What the transport does not take yet waits in one frame of each kind: of what was accepted
        the newest, of instructions the newest for each slot. So a slow reader's memory is bounded.
        """
        kind = frame.WhichOneof("frame")
        assert kind is not None
        waiting = self._outbox.get(kind)
        if waiting is not None and kind == "push":
            frame = _joined(waiting, frame)
        self._outbox[kind] = frame
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while self._outbox:
                await self.send(self._outbox.pop(next(iter(self._outbox))))
        except (
            grpc.aio.UsageError,
            grpc.aio.InternalError,
            grpc.aio.AioRpcError,
            grpc.aio.AbortError,
        ) as error:
            # The stream has ended meanwhile; the agent learns what it missed over the next one.
            _log.debug("a frame met a closed stream", svm=self.svm_id, problem=str(error))
        finally:
            self._sending = None

    def has_outlived(self, now: float) -> bool:
        """Whether the agent's certificate is over, in seconds since 1970."""
        return self.caller.expires_at is not None and self.caller.expires_at <= now

    def end(self, why: BaseException) -> None:
        """End the stream from the server's side; the agent is told why and will come again."""
        if self._task is not None and self.ending is None:
            self.ending = why
            if not self._sends_first:
                self._task.cancel()

    def has_ended(self) -> None:
        """Nobody ends it any more: that would cut off what the agent is told of its end."""
        self._task = None


def _joined(
    waiting: agent_pb2.ConnectResponse, frame: agent_pb2.ConnectResponse
) -> agent_pb2.ConnectResponse:
    """One push for two, with the newest instruction for each slot, by version."""
    newest = {
        (one.slot.type, one.slot.role): one
        for push in (waiting.push, frame.push)
        for one in sorted(push.instructions, key=lambda one: one.version)
    }
    instructions = sorted(newest.values(), key=lambda one: one.version)
    push = agent_pb2.Push(nonce=frame.push.nonce, instructions=instructions)
    return agent_pb2.ConnectResponse(push=push)


class Sessions:
    """The open streams by SVM; belongs to one event loop."""

    def __init__(self) -> None:
        self._by_svm: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_svm)

    def __contains__(self, svm_id: object) -> bool:
        return svm_id in self._by_svm

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._by_svm.values()))

    def get(self, svm_id: str) -> Session | None:
        """The stream of an SVM, if it is open."""
        return self._by_svm.get(svm_id)

    def add(self, session: Session) -> Session | None:
        """Take a stream in; returns the one that it takes the place of."""
        replaced = self._by_svm.get(session.svm_id)
        self._by_svm[session.svm_id] = session
        return replaced

    def remove(self, session: Session) -> bool:
        """Take a stream out; False where another has taken its place."""
        if self._by_svm.get(session.svm_id) is not session:
            return False
        del self._by_svm[session.svm_id]
        return True

    def among(self, svm_ids: Iterable[str]) -> list[Session]:
        """The open streams of these SVMs."""
        return [self._by_svm[svm_id] for svm_id in svm_ids if svm_id in self._by_svm]
