"""Warnings that come with a success: nothing is refused for them (R9, R54, R76)."""

from enum import Enum


class Advice(Enum):
    """What an operator should look at after a change that was made."""

    OS_MIX_MISMATCH = "OS_MIX_MISMATCH"
    RESERVE_COVERAGE_GAP = "RESERVE_COVERAGE_GAP"
    UNCOVERED_OS_CLASS = "UNCOVERED_OS_CLASS"
    MIXED_EDITIONS = "MIXED_EDITIONS"
    MIXED_SCHEMES = "MIXED_SCHEMES"
    RESERVE_STARTS_LATE = "RESERVE_STARTS_LATE"
    KEYS_VOID = "KEYS_VOID"


_EXPLANATIONS = {
    Advice.OS_MIX_MISMATCH: (
        "The SVM reports no guest that a key of this type is for: check that it is the right key."
    ),
    Advice.RESERVE_COVERAGE_GAP: (
        "The SVM protects servers and desktops but has one reserve only: add the other one too."
    ),
    Advice.UNCOVERED_OS_CLASS: (
        "Some guests of the SVM are covered by no usable active key: add a key of their type."
    ),
    Advice.MIXED_EDITIONS: (
        "SVMs use different editions other than as a server and desktop pair: "
        "settle on one edition, or moving guests will gain and lose functions."
    ),
    Advice.MIXED_SCHEMES: (
        "SVMs are licensed by different schemes: settle on one for the whole installation."
    ),
    Advice.RESERVE_STARTS_LATE: (
        "The reserve starts after the active key has ended: "
        "choose one that starts earlier, or the SVM is without a valid key in between."
    ),
    Advice.KEYS_VOID: (
        "The SVM's clock was changed and its keys are void, this one too: "
        "set the clock right, forget the SVM, let it connect again, and activate it."
    ),
}


def explain_advice(advice: Advice) -> str:
    """One sentence for people: what was noticed, and what to do about it."""
    return _EXPLANATIONS[advice]
