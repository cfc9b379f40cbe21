"""Pages: every list in parts, and tokens that serve their own list only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sparekey.licensing.keys import KeyKind
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2

from .site import Site, running_site
from .words import refusal_of

Listing = Callable[..., Awaitable[Any]]
COUNT = 7


async def filled(site: Site) -> dict[str, tuple[Listing, str]]:
    """A site with seven things in every list; by name the list and its field."""
    await site.connect(*(f"svm-{number}" for number in range(COUNT)))
    keys = [await site.new_key(ends=30 + number // 3) for number in range(4)]
    keys += [await site.new_key(kind=KeyKind.SUBSCRIPTION, ends=None) for _ in range(3)]
    tasks = [await site.ended(site.activate(key)) for key in keys]

    def listing(rpc: Any, request: type[Any], **fixed: Any) -> Listing:
        return lambda **more: rpc(request(**{**fixed, **more}))

    return {
        "keys": (listing(site.keys.ListKeys, key_pb2.ListKeysRequest), "keys"),
        "svms": (listing(site.svms.ListSvms, fleet_pb2.ListSvmsRequest), "svms"),
        "tasks": (listing(site.licenses.ListTasks, license_pb2.ListTasksRequest), "tasks"),
        "outcomes": (
            listing(
                site.licenses.ListOutcomes,
                license_pb2.ListOutcomesRequest,
                task_id=tasks[0].task_id,
            ),
            "outcomes",
        ),
        "events": (
            listing(
                site.events.ListEvents,
                event_pb2.ListEventsRequest,
                kinds=[event_pb2.EVENT_KIND_SVM_REGISTERED],
            ),
            "events",
        ),
    }


async def test_every_list_in_pages_of_every_size_is_the_whole_list(site: Site) -> None:
    for listing, field in (await filled(site)).values():
        whole = list(getattr(await listing(), field))
        assert len(whole) == COUNT
        for size in (1, 2, 3, 6, 7, 8, 1000):
            found: list[Any] = []
            token = ""
            while True:
                page = await listing(page_size=size, page_token=token)
                items = list(getattr(page, field))
                assert len(items) <= size
                found.extend(items)
                token = page.next_page_token
                if not token:
                    break
                assert len(items) == size
            assert found == whole, (field, size)


async def test_R100_keys_are_listed_by_end_then_serial_and_those_without_end_last(
    site: Site,
) -> None:
    for days in (50, 40, None, 40, 30, None):
        kind = KeyKind.COMMERCIAL if days else KeyKind.SUBSCRIPTION
        await site.new_key(kind=kind, ends=days)
    keys = (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    order = [(not key.HasField("expires_at"), key.expires_at.seconds, key.serial) for key in keys]
    assert order == sorted(order)
    assert len(order) == 6


async def test_a_token_serves_its_own_list_with_its_own_filters_only(site: Site) -> None:
    lists = await filled(site)
    tokens = {
        name: (await listing(page_size=2)).next_page_token for name, (listing, _) in lists.items()
    }
    for name, (listing, _) in lists.items():
        for other, token in tokens.items():
            if other != name:
                problem = await refusal_of(listing(page_size=2, page_token=token))
                assert problem.reason == "INVALID_PAGE_TOKEN", (name, other)
    svms, outcomes, events = (lists[name][0] for name in ("svms", "outcomes", "events"))
    for call in (
        svms(page_token=tokens["svms"], cluster="other"),
        outcomes(page_token=tokens["outcomes"], state=license_pb2.OUTCOME_STATE_APPLIED),
        events(page_token=tokens["events"], svm_id="svm-1"),
        events(page_token=tokens["events"], kinds=[]),
        events(page_token=tokens["events"], task_id="task-0"),
        events(page_token=tokens["events"], key_serial="ABCD-ABCDEF-ABCDEF01"),
    ):
        assert (await refusal_of(call)).reason == "INVALID_PAGE_TOKEN"


async def test_a_token_in_which_any_character_was_changed_is_refused(site: Site) -> None:
    for number in range(3):
        await site.new_key(ends=30 + number)
    token = (await site.keys.ListKeys(key_pb2.ListKeysRequest(page_size=1))).next_page_token
    changed = [
        token[:at] + other + token[at + 1 :]
        for at in range(len(token))
        for other in ("A", "B", "_", "+", "=", "\u00e9", " ")
        if token[at] != other
    ]
    changed += [token[:-1], token + "A", token + "=", token[1:], "x", "-", "?", token * 2]
    for text in changed:
        request = key_pb2.ListKeysRequest(page_size=1, page_token=text)
        assert (await refusal_of(site.keys.ListKeys(request))).reason == "INVALID_PAGE_TOKEN", text


async def test_a_token_of_another_installation_is_refused(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number in range(2):
        await site.new_key(ends=30 + number)
    token = (await site.keys.ListKeys(key_pb2.ListKeysRequest(page_size=1))).next_page_token
    async with running_site(tmp_path_factory.mktemp("other"), site.signer) as other:
        problem = await refusal_of(other.keys.ListKeys(key_pb2.ListKeysRequest(page_token=token)))
        assert problem.reason == "INVALID_PAGE_TOKEN"


async def test_a_token_outlasts_a_restart_and_what_comes_and_goes_meanwhile(site: Site) -> None:
    keys = [await site.new_key(ends=30 + number) for number in range(4)]
    page = await site.keys.ListKeys(key_pb2.ListKeysRequest(page_size=2))
    await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=keys[1].serial))
    await site.new_key(ends=10)
    await site.server.stop()
    await site.start()
    rest = await site.keys.ListKeys(key_pb2.ListKeysRequest(page_token=page.next_page_token))
    assert [key.serial for key in rest.keys] == [keys[2].serial, keys[3].serial]
