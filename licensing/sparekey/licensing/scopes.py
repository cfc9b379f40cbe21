"""Which SVMs a task is for."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AllSvms:
    """Every SVM of the installation."""


@dataclass(frozen=True, slots=True)
class OneCluster:
    """The SVMs of one cluster, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class PickedSvms:
    """One or several SVMs, by their ids (R50)."""

    ids: tuple[str, ...]


Scope = AllSvms | OneCluster | PickedSvms


def resolve(scope: Scope, svms: Iterable[tuple[str, str | None]]) -> tuple[list[str], list[str]]:
    """The ids of the SVMs in the scope, and the picked ids that are unknown (R3, R50).

    `svms` are all SVMs as (id, cluster), the cluster None for an SVM in none. Both answers are
    sorted and without repeats. Called when the task starts, so SVMs that come later are not in it
    (R99). An empty scope is for the caller to refuse (R78).
    """
    clusters = dict(svms)
    match scope:
        case AllSvms():
            return sorted(clusters), []
        case OneCluster(name):
            return sorted(svm for svm, cluster in clusters.items() if cluster == name), []
        case PickedSvms(ids):
            picked = set(ids)
            return sorted(picked & clusters.keys()), sorted(picked - clusters.keys())
