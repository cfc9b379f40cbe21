"""Every knob of the fake in one table, from which the help text and the README are made."""

from dataclasses import dataclass

from sparekey.activation.fake.faults import FaultKind


@dataclass(frozen=True, slots=True)
class Knob:
    """One knob.

    `name` is a flag of the program or a fault's kind, `value` what it takes, `default` what holds
    without it, as text.
    """

    name: str
    value: str
    default: str
    meaning: str


FLAGS = {
    "listen": Knob(
        "--listen",
        "HOST:PORT",
        "127.0.0.1:7444",
        "Where license servers ask; loopback only. Port 0 picks a free one.",
    ),
    "control": Knob(
        "--control",
        "HOST:PORT",
        "127.0.0.1:7445",
        "Where tests script the fake; loopback only. Port 0 picks a free one.",
    ),
    "data": Knob(
        "--data",
        "FOLDER",
        "a temporary folder, removed at the end",
        "Keeps the signing key, the public keys to pin and the catalogue, so that a restart"
        " forgets nothing.",
    ),
    "seed": Knob(
        "--seed",
        "NUMBER",
        "none: new serials at each run",
        "Makes serials and chaos repeat themselves; the signing key is never drawn from it.",
    ),
    "chaos": Knob(
        "--chaos",
        "PERCENT",
        "0",
        "Answers that share of good calls UNAVAILABLE, 0 to 100, until a test sets faults of its"
        " own. Reset brings it back.",
    ),
    "log_level": Knob(
        "--log-level",
        "LEVEL",
        "info",
        "How much goes to standard error: debug, info, warning or error.",
    ),
}
"""The flags of the program by the name of their parameter."""

FAULTS = {
    FaultKind.UNAVAILABLE: Knob(
        "UNAVAILABLE",
        "",
        "off",
        "Ends the call with the status UNAVAILABLE. Nothing is carried out.",
    ),
    FaultKind.DELAY: Knob(
        "DELAY",
        "delay",
        "off",
        "Carries the call out and answers only after a span of real time, at most 10 minutes.",
    ),
    FaultKind.WRONG_VERDICT: Knob(
        "WRONG_VERDICT",
        "verdict",
        "off",
        "Carries the call out and answers another verdict; a false OK comes without a key.",
    ),
    FaultKind.DUPLICATE_ANSWER: Knob(
        "DUPLICATE_ANSWER",
        "",
        "off",
        "Carries the call out and answers what the call before of the same RPC was answered;"
        " strikes only where there was one.",
    ),
    FaultKind.CUT_CONNECTION: Knob(
        "CUT_CONNECTION",
        "",
        "off",
        "Carries the call out and cuts its TCP connection, with whatever else is on it.",
    ),
    FaultKind.BAD_SIGNATURE: Knob(
        "BAD_SIGNATURE",
        "",
        "off",
        "Carries the call out and signs the key of the answer wrongly; RedeemCode and RenewKey"
        " only.",
    ),
}
"""The faults that SetFaults takes, by kind."""


def markdown_table() -> str:
    """The table for the README."""
    lines = ["| knob | value | default | what it does |", "|---|---|---|---|"]
    for where, knobs in (("flag", FLAGS.values()), ("fault", FAULTS.values())):
        lines += [
            f"| {where} `{knob.name}` | {knob.value} | {knob.default} | {knob.meaning} |"
            for knob in knobs
        ]
    return "\n".join(lines) + "\n"


def faults_help() -> str:
    """The paragraph about faults under the flags in the help text."""
    listed = " ".join(f"{knob.name}: {knob.meaning}" for knob in FAULTS.values())
    return f"Faults that SetFaults on the control port takes. {listed}"
