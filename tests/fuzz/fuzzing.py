"""Gives an RPC its inputs, and looks at what must hold after each."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from fuzz.callers import Answer, Caller, Given, caller_of
from fuzz.inputs import Inputs
from fuzz.worlds import World
from sparekey.v1 import agent_pb2
from sparekey.wire.errors import read_problem

GROUP = 16
"""So many calls go out at once, so that the server writes them in one transaction."""

_MAY_WRITE: Mapping[str, frozenset[str]] = {
    # That a second agent was refused is itself a fact for the history.
    "CLONED_AGENT": frozenset({"events"}),
}
"""By the reason of a refusal, the tables that it may change all the same."""


class Broken(AssertionError):
    """Something that must hold does not; the message says what, with the input."""


@dataclass
class Tried:
    """What was tried on one target.

    Attributes:
        name: The target.
        structured: Structured inputs.
        structured_taken: Those of them that were not refused.
        mutated: Byte-level mutations of valid ones.
        mutated_taken: Those of them that were not refused.
        unchanged: Refused inputs after which the state was seen to be as before.
        seconds: How long it took.
        reasons: How often which reason was given.
    """

    name: str
    structured: int = 0
    structured_taken: int = 0
    mutated: int = 0
    mutated_taken: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """Inputs that were refused."""
        return self.structured + self.mutated - self.structured_taken - self.mutated_taken


class Fuzzing:
    """Gives the inputs to one RPC.

    Args:
        world: The server.
        method: The RPC.
        seed: The same seed makes the same inputs, but for ids that servers draw.
        told: What `faults_told` collects.
    """

    def __init__(self, world: World, method: MethodDescriptor, seed: int, told: list[str]) -> None:
        assert method.containing_service is not None
        self._name = f"/{method.containing_service.full_name}/{method.name}"
        self._world = world
        self._method = method
        self._told = told
        # By the name too, so that an RPC alone gets the inputs that it gets among the others.
        self._random = random.Random(f"{seed}{self._name}")
        self._inputs = Inputs(self._random, world.known)
        self._caller: Caller = caller_of(method, world.channel(method.name))
        # Inputs that were taken, to be sent again; and requests for the pages that follow.
        self._taken: deque[bytes] = deque(maxlen=50)
        self._tried = Tried(self._name)
        self._writes = False

    async def run(self, structured: int, mutated: int) -> Tried:
        """Give so many inputs of each kind.

        Raises:
            Broken: something does not hold.
        """
        started = time.monotonic()
        tried = self._tried
        for start in range(0, structured, GROUP):
            count = min(GROUP, structured - start)
            tried.structured_taken += await self._give(await self._draw(count, mutate=False))
            tried.structured += count
        for start in range(0, mutated, GROUP):
            count = min(GROUP, mutated - start)
            tried.mutated_taken += await self._give(await self._draw(count, mutate=True))
            tried.mutated += count
        tried.seconds = time.monotonic() - started
        return tried

    async def _give(self, inputs: list[Given]) -> int:
        """Give inputs at once or one after the other; how many were taken."""
        # One after the other tells which input wrote something; of one that reads it tells nothing.
        if not self._writes or self._random.random() < 0.6:
            return await self._at_once(inputs)
        return sum([await self._at_once([one]) for one in inputs])

    async def _at_once(self, inputs: list[Given]) -> int:
        await self._world.rest()
        opened = await asyncio.gather(*(self._caller.open(one) for one in inputs))
        before = dict(self._world.watch.changes())
        answers = await asyncio.gather(
            *(self._caller.finish(*pair) for pair in zip(inputs, opened, strict=True))
        )
        after = self._world.watch.changes()
        refused = []
        for given, answer in zip(inputs, answers, strict=True):
            if answer.error is None:
                self._remember(given, answer)
            else:
                refused.append((given, self._reason(given, answer.error)))
        if self._told:
            raise Broken(f"{self._name} led to a fault: {self._told[0]} by one of {inputs!r}")
        changed = {name for name in after if after[name] != before.get(name)}
        self._writes |= bool(changed)
        if not changed or not refused:
            self._tried.unchanged += len(refused)
        elif len(inputs) == 1:
            given, reason = refused[0]
            if not changed <= _MAY_WRITE.get(reason, frozenset()):
                raise Broken(f"{self._name} refused by {reason} and changed {changed}: {given!r}")
            self._tried.unchanged += 1
        else:
            # Which of them did it: one that was taken, or one that was refused?
            for given, _ in refused:
                await self._at_once([given])
        return len(inputs) - len(refused)

    def _reason(self, given: Given, error: grpc.aio.AioRpcError) -> str:
        problem = read_problem(error)
        said = f"{problem.message} {error.debug_error_string()}"
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in said:
            # Above what the edge takes the transport itself refuses.
            reason = "TOO_LARGE"
        else:
            reason = problem.reason
        if not reason or reason == "INTERNAL" or "Traceback" in said:
            raise Broken(f"{self._name} answered {problem} to {given!r}; {self._told}")
        self._tried.reasons[reason] += 1
        return reason

    def _remember(self, given: Given, answer: Answer) -> None:
        if self._random.random() < 0.2:
            self._taken.append(given.content)
        # A page's token fits only to the request that it came for.
        if answer.content and "next_page_token" in self._method.output_type.fields_by_name:
            page = GetMessageClass(self._method.output_type).FromString(answer.content)
            token: str = getattr(page, "next_page_token")  # noqa: B009 - of any list
            if token:
                request = GetMessageClass(self._method.input_type).FromString(given.content)
                setattr(request, "page_token", token)  # noqa: B010 - of any list
                self._taken.append(request.SerializeToString())

    async def _draw(self, count: int, *, mutate: bool) -> list[Given]:
        await self._world.refill()
        if not self._method.client_streaming:
            return [Given(self._content(mutate=mutate)) for _ in range(count)]
        # Each stream is of an SVM of its own, so that none takes another's place.
        svm_ids = self._random.sample(self._world.known["svm_id"], count)
        drawn = []
        for svm_id in svm_ids:
            first = "" if self._random.random() < 0.25 else svm_id
            drawn.append(Given(self._content(svm_id=first, mutate=mutate), first))
        return drawn

    def _content(self, *, svm_id: str = "", mutate: bool) -> bytes:
        if mutate:
            return self._inputs.mutated(self._plausible(svm_id))
        if self._taken and self._random.random() < 0.1:
            return self._random.choice(self._taken)
        if self._method.client_streaming and self._random.random() < 0.3:
            return self._plausible(svm_id)
        return self._inputs.structured(self._method.input_type).SerializeToString()

    def _plausible(self, svm_id: str) -> bytes:
        """A message that a good client might send now."""
        message = self._inputs.plausible(self._method.input_type)
        if self._method.client_streaming:
            if not svm_id:
                hello = self._inputs.plausible(agent_pb2.Hello.DESCRIPTOR)
                assert isinstance(hello, agent_pb2.Hello)
                message = agent_pb2.ConnectRequest(hello=hello)
            elif self._random.random() < 0.6:
                message = self._world.compose(svm_id) or message
        return message.SerializeToString()
