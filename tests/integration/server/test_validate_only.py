"""A dry run tells what the call would answer, and changes nothing at all."""

from __future__ import annotations

import pytest

from sparekey.v1 import key_pb2, license_pb2

from .mutations import MUTATIONS, mutating, prepare
from .site import Site
from .words import outcomes_of


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_dry_run_changes_nothing(site_with_codes: Site, name: str) -> None:
    """Every table is as it was, the activation server has nothing used up, no id is spent."""
    site = site_with_codes
    call = mutating(site, name, await prepare(site))
    before = site.dump()
    assert await call(validate_only=True) == await call(validate_only=True, request_id="once")
    assert site.dump() == before
    await call(request_id="once")
    assert site.dump() != before


@pytest.mark.parametrize("name", ["AddKey file", "DeleteKey", "ExcludeSvm", "ForgetSvm"])
async def test_a_dry_run_answers_as_the_call_itself(site_with_codes: Site, name: str) -> None:
    site = site_with_codes
    call = mutating(site, name, await prepare(site))
    assert await call(validate_only=True) == await call()


async def test_a_dry_run_of_a_refresh_names_what_is_blocked(site_with_codes: Site) -> None:
    site = site_with_codes
    ready = await prepare(site)
    dry = await site.keys.RefreshKeys(key_pb2.RefreshKeysRequest(validate_only=True))
    assert [key.serial for key in dry.newly_blocked_keys] == [ready.blocked]
    assert not dry.newly_blocked_keys[0].HasField("blocked_at")


async def test_a_dry_run_of_a_cancellation_shows_the_task_as_it_is(site_with_codes: Site) -> None:
    site = site_with_codes
    ready = await prepare(site)
    request = license_pb2.CancelTaskRequest(task_id=ready.task.task_id, validate_only=True)
    dry = (await site.licenses.CancelTask(request)).task
    assert outcomes_of(dry) == {"offline": "PENDING"}


async def test_a_dry_run_of_a_task_has_no_id_and_speaks_of_what_would_be(site: Site) -> None:
    await site.connect("svm-1")
    dry = await site.activate(await site.new_key(), validate_only=True)
    assert dry.task_id == ""
    assert dry.state == license_pb2.TASK_STATE_SUCCEEDED
    assert dry.outcomes[0].message == "The SVM will hold the key."
    assert dry.counts.applied == 1
