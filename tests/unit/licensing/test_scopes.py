"""Which SVMs a task is for."""

import pytest

from sparekey.licensing.scopes import AllSvms, OneCluster, PickedSvms, Scope, resolve

SVMS = [("svm-3", "blue"), ("svm-1", "red"), ("svm-2", None), ("svm-4", "red")]


@pytest.mark.parametrize(
    ("scope", "inside", "unknown"),
    [
        (AllSvms(), ["svm-1", "svm-2", "svm-3", "svm-4"], []),
        (OneCluster("red"), ["svm-1", "svm-4"], []),
        (OneCluster("green"), [], []),
        (OneCluster(""), [], []),
        (PickedSvms(("svm-2",)), ["svm-2"], []),
        (PickedSvms(("svm-4", "svm-2", "svm-4")), ["svm-2", "svm-4"], []),
        (PickedSvms(("z", "svm-2", "y", "z")), ["svm-2"], ["y", "z"]),
        (PickedSvms(()), [], []),
    ],
)
def test_R3_R50_the_scope_is_all_one_cluster_or_picked_svms(
    scope: Scope, inside: list[str], unknown: list[str]
) -> None:
    assert resolve(scope, iter(SVMS)) == (inside, unknown)


def test_R99_an_svm_that_joins_later_is_in_scope_only_when_it_is_resolved_again() -> None:
    assert resolve(OneCluster("blue"), SVMS)[0] == ["svm-3"]
    assert resolve(OneCluster("blue"), [*SVMS, ("svm-5", "blue")])[0] == ["svm-3", "svm-5"]


def test_R99_an_svm_in_no_cluster_is_in_no_cluster_scope() -> None:
    assert all("svm-2" not in resolve(OneCluster(name), SVMS)[0] for name in ("red", "None", ""))
    assert resolve(AllSvms(), []) == ([], [])
