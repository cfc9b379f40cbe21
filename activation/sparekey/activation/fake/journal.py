"""The calls that the fake got, for tests to read. No code is in it (R79)."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sparekey.activation.fake.faults import FaultKind
from sparekey.activation.fake.verdicts import Verdict

MAX_CALLS = 10_000
"""The most calls that are kept."""

MAX_SERIALS = 50_000
"""The most serials asked about that are kept, so that a client can receive the journal at once."""


@dataclass(slots=True)
class JournaledCall:
    """One call, entered when it comes and completed when it is answered.

    `asked` are the serials that it asked about, `issued` is the one of the key that it got.
    `verdict` stays None while it is under way and where none was given. Of a CheckKeys it is the
    first that is not OK. After a cut connection it is the one that the client did not get.
    """

    number: int
    called_at: datetime
    method: str
    installation_id: str
    asked: tuple[str, ...] = ()
    code_ending: str = ""
    issued: str = ""
    verdict: Verdict | None = None
    fault: FaultKind | None = None


class Journal:
    """The last calls, oldest first: at most `MAX_CALLS` of them with `MAX_SERIALS` serials."""

    def __init__(self) -> None:
        self._calls: deque[JournaledCall] = deque()
        self._serials = 0
        self._last_number = 0

    def enter(
        self,
        called_at: datetime,
        method: str,
        installation_id: str,
        *,
        asked: Sequence[str] = (),
        code_ending: str = "",
    ) -> JournaledCall:
        """A new call with the next number."""
        self._last_number += 1
        call = JournaledCall(
            self._last_number, called_at, method, installation_id, tuple(asked), code_ending
        )
        self._calls.append(call)
        self._serials += len(call.asked)
        while len(self._calls) > MAX_CALLS or self._serials > MAX_SERIALS:
            self._serials -= len(self._calls.popleft().asked)
        return call

    def calls(self) -> tuple[JournaledCall, ...]:
        """The calls, oldest first."""
        return tuple(self._calls)

    def clear(self) -> None:
        """Forget the calls; numbers go on from the last."""
        self._calls.clear()
        self._serials = 0
