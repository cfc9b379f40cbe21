"""Advice: what deserves attention although it was done. It never refuses anything."""

from __future__ import annotations

import pytest

from sparekey.licensing.keys import Edition, KeyType
from sparekey.v1 import fleet_pb2

from .site import Site
from .words import advice_of, outcomes_of, state_of


async def test_R9_a_mixed_svm_with_one_reserve_has_a_gap(site: Site) -> None:
    await site.connect("svm-1", servers=1, desktops=1)
    await site.license(await site.new_key(), await site.new_key(KeyType.DESKTOP))
    first, second = await site.new_key(ends=60), await site.new_key(KeyType.DESKTOP, ends=60)
    task = await site.ended(site.renew(first))
    assert outcomes_of(task) == {"svm-1": "APPLIED"}
    assert advice_of(task.outcomes[0]) == ["RESERVE_COVERAGE_GAP"]
    assert "add the other one too" in task.outcomes[0].message
    assert advice_of((await site.ended(site.renew(second))).outcomes[0]) == []


async def test_R33_an_active_key_that_leaves_guests_uncovered(site: Site) -> None:
    await site.connect("svm-1", servers=1, desktops=1)
    task = await site.ended(site.activate(await site.new_key()))
    assert advice_of(task.outcomes[0]) == ["UNCOVERED_OS_CLASS"]
    task = await site.ended(site.activate(await site.new_key(KeyType.DESKTOP)))
    assert advice_of(task.outcomes[0]) == []


@pytest.mark.parametrize(
    ("type_", "guests", "wanted"),
    [
        (KeyType.DESKTOP, {"servers": 1}, ["OS_MIX_MISMATCH", "UNCOVERED_OS_CLASS"]),
        (KeyType.DESKTOP, {"unknown": 1}, ["OS_MIX_MISMATCH", "UNCOVERED_OS_CLASS"]),
        (KeyType.DESKTOP, {"desktops": 1}, []),
        (KeyType.CORES, {"servers": 1, "desktops": 1}, []),
        (KeyType.DESKTOP, {}, []),
    ],
)
async def test_R34_R76_R91_a_key_for_guests_that_are_not_there_is_added_with_a_warning(
    site: Site, type_: KeyType, guests: dict[str, int], wanted: list[str]
) -> None:
    await site.connect("svm-1", **guests)
    task = await site.ended(site.activate(await site.new_key(type_)))
    assert state_of(task) == "SUCCEEDED"
    assert advice_of(task.outcomes[0]) == wanted


async def test_R76_advice_stays_with_the_outcome_and_comes_with_the_dry_run(site: Site) -> None:
    await site.connect("svm-1", servers=1)
    key = await site.new_key(KeyType.DESKTOP)
    dry = await site.activate(key, validate_only=True)
    assert advice_of(dry.outcomes[0]) == ["OS_MIX_MISMATCH", "UNCOVERED_OS_CLASS"]
    task = await site.ended(site.activate(key))
    assert advice_of(task.outcomes[0]) == advice_of(dry.outcomes[0])


async def test_a_reserve_that_begins_after_the_active_key_has_ended(site: Site) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(ends=30))
    task = await site.ended(site.renew(await site.new_key(starts=31, ends=60)))
    assert advice_of(task.outcomes[0]) == ["RESERVE_STARTS_LATE"]


async def test_R40_two_editions_in_one_installation(site: Site) -> None:
    await site.connect("svm-1", "svm-2")
    standard, enterprise = await site.new_key(), await site.new_key(edition=Edition.ENTERPRISE)
    assert advice_of(await site.ended(site.activate(standard))) == []
    await site.ended(site.activate(enterprise, "svm-1"))
    await site.connect("svm-3")
    task = await site.ended(site.activate(await site.new_key(KeyType.DESKTOP)))
    assert advice_of(task) == ["MIXED_EDITIONS"]


async def test_R40_a_server_and_desktop_pair_of_two_editions_is_fine(site: Site) -> None:
    await site.connect("svm-1", "svm-2")
    await site.ended(site.activate(await site.new_key()))
    desktop = await site.new_key(KeyType.DESKTOP, edition=Edition.ENTERPRISE)
    assert advice_of(await site.ended(site.activate(desktop))) == []


async def test_R41_two_schemes_in_one_installation(site: Site) -> None:
    await site.connect("svm-1", "svm-2")
    await site.ended(site.activate(await site.new_key(KeyType.CORES), "svm-1"))
    await site.ended(site.activate(await site.new_key(KeyType.SERVER), "svm-2"))
    reserve = await site.new_key(KeyType.CORES, ends=60)
    dry = await site.renew(reserve, validate_only=True)
    assert advice_of(dry) == ["MIXED_SCHEMES"]
    assert advice_of(await site.ended(site.renew(reserve))) == ["MIXED_SCHEMES"]


async def test_R40_R41_a_task_of_one_cluster_looks_at_the_others_too(site: Site) -> None:
    await site.connect("a-1", cluster="a")
    await site.connect("b-1", cluster="b")
    await site.ended(site.activate(await site.new_key(), cluster="a"))
    cores = await site.new_key(KeyType.CORES, edition=Edition.ENTERPRISE)
    dry = await site.activate(cores, cluster="b", validate_only=True)
    assert advice_of(dry) == ["MIXED_EDITIONS", "MIXED_SCHEMES"]
    assert advice_of(await site.ended(site.activate(cores, cluster="b"))) == advice_of(dry)
    # The other cluster follows: what it held until then is mixed with nothing.
    assert advice_of(await site.ended(site.activate(cores, cluster="a"))) == []


async def test_R40_an_excluded_svm_is_part_of_the_installation(site: Site) -> None:
    await site.connect("in", "out")
    await site.ended(site.activate(await site.new_key()))
    await site.svms.ExcludeSvm(fleet_pb2.ExcludeSvmRequest(svm_id="out"))
    enterprise = await site.new_key(edition=Edition.ENTERPRISE, ends=60)
    assert advice_of(await site.ended(site.activate(enterprise))) == ["MIXED_EDITIONS"]


async def test_R40_only_keys_in_force_count_of_the_other_clusters(site: Site) -> None:
    """One ended, one ended without a report, and one whose reserve took over without a report."""
    await site.connect("a-1", cluster="a")
    others = {"ended": (40, 0), "silent": (40, 0), "renewed": (40, 90)}
    for cluster, (ends, reserve_ends) in others.items():
        await site.connect(f"{cluster}-1", cluster=cluster)
        key = await site.new_key(edition=Edition.ENTERPRISE, ends=ends)
        await site.ended(site.activate(key, cluster=cluster))
        if reserve_ends:
            key = await site.new_key(edition=Edition.ENTERPRISE, ends=reserve_ends)
            await site.ended(site.renew(key, cluster=cluster))
    await site.disconnect("silent-1", "renewed-1")
    key = await site.new_key(ends=80)
    assert advice_of(await site.ended(site.activate(key, cluster="a"))) == ["MIXED_EDITIONS"]
    await site.advance(45)
    key = await site.new_key(ends=100)
    assert advice_of(await site.ended(site.activate(key, cluster="a"))) == ["MIXED_EDITIONS"]
    await site.advance(50)
    key = await site.new_key(ends=200)
    assert advice_of(await site.ended(site.activate(key, cluster="a"))) == []
