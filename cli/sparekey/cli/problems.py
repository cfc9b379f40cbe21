"""What went wrong, in one sentence on standard error, and the exit code for it."""

from __future__ import annotations

import grpc

from sparekey.cli.cells import plain
from sparekey.wire.errors import CallProblem, read_problem

EXIT_REFUSED = 1
"""The server refused the call or could not be reached."""
EXIT_USAGE = 2
"""The command line was not understood."""
EXIT_PARTIAL = 3
"""A task succeeded on some SVMs and not on others."""
EXIT_FAILED = 4
"""A task succeeded on no SVM, or was cancelled."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C."""


class CommandFailed(Exception):
    """The command ends here; the message is one sentence for a person."""

    def __init__(self, message: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def is_passing(problem: CallProblem) -> bool:
    """Whether the same call may succeed shortly."""
    return problem.code is grpc.StatusCode.UNAVAILABLE


def describe(error: grpc.RpcError, address: object) -> str:
    """A failed call in one sentence, with its reason and the fields at fault."""
    problem = read_problem(error)
    if not problem.reason:
        return _describe_transport(problem, address)
    words = [plain(problem.message).rstrip("."), f"({plain(problem.reason)})"]
    unsaid = [
        f"{plain(violation.field)} {plain(violation.problem)}"
        for violation in problem.violations
        if f"{violation.field} {violation.problem}" not in problem.message
    ]
    if unsaid:
        words.append("in " + "; ".join(unsaid))
    if problem.retry_after is not None:
        words.append(f"- try again in {problem.retry_after.total_seconds():g} s")
    return " ".join(words)


def _describe_transport(problem: CallProblem, address: object) -> str:
    match problem.code:
        case grpc.StatusCode.UNAVAILABLE:
            return (
                f"cannot reach a server at {address}; check that sparekey-server runs, and"
                " --server or SPAREKEY_SERVER"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"the server at {address} did not answer in time; try again, or allow more with"
                " --timeout"
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"the server at {address} does not offer this call; it may be of another release"
        case _:
            said = plain(problem.message) or "no more is known"
            return f"the call to {address} failed: {said} ({problem.code.name})"
