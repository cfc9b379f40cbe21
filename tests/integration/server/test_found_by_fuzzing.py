"""Defects of the agents' link that fuzzing found, each by its name."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sparekey.v1 import agent_pb2, event_pb2, keyring_pb2

from .raw_agent import RawAgent, activated
from .site import Site
from .words import until

GIANT = 2**62
"""The highest number that an agent may claim."""


async def test_a_giant_keyring_revision_costs_no_memory(site: Site) -> None:
    """The revisions up to it were written out one by one, in a list that no memory holds."""
    key = await site.new_key()
    agent = RawAgent(site)
    await agent.open()
    keyring = activated(key, revision=GIANT)
    assert len(keyring.changes) == 1
    await agent.report(full=True, keyring=keyring)
    svm = await site.svm("svm-1")
    assert (svm.keyring.revision, len(svm.keyring.keys)) == (GIANT, 1)
    assert len(await site.history(event_pb2.EVENT_KIND_KEYRING_RESYNCED)) == 1
    await agent.leave()


async def test_changes_up_to_a_giant_revision_join_on(site: Site) -> None:
    """What is next after a giant revision is taken as the change that it is."""
    key = await site.new_key()
    agent = RawAgent(site)
    await agent.open()
    await agent.report(full=True, keyring=keyring_pb2.Keyring(revision=GIANT - 1))
    await agent.report(keyring=activated(key, revision=GIANT))
    (event,) = await site.history(event_pb2.EVENT_KIND_KEYRING_CHANGED)
    assert event.change.revision == GIANT
    await agent.leave()


async def test_a_stream_that_is_replaced_before_its_welcome_is_ended(site: Site) -> None:
    """It was left open without a word, so its agent waited until its own patience was over."""
    older, newer = RawAgent(site), RawAgent(site)
    hello = agent_pb2.Hello(svm_id="svm-1", boot_id="boot-1")
    sessions = site.server._link.sessions
    with closing(sqlite3.connect(site.database, isolation_level=None)) as database:
        # While another writes, no hello can be written down.
        database.execute("BEGIN IMMEDIATE")
        await older.send(hello=hello)
        await until(lambda: "svm-1" in sessions)
        first = sessions.get("svm-1")
        await newer.send(hello=hello)
        await until(lambda: sessions.get("svm-1") is not first)
        assert (await older.refused()).reason == "STREAM_REPLACED"
        database.execute("ROLLBACK")
    assert (await newer.next()).WhichOneof("frame") == "welcome"
    await newer.leave()
    await until(lambda: not len(sessions))
