"""Opening the database: migrations, refusals, identity, and how values are stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, inspect, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex

from sparekey.runtime.startup import StartupRefused
from sparekey.server.store import schema
from sparekey.server.store.database import (
    migration_config,
    open_database,
    read_identity,
    sqlite_url,
)

from .world import NOW


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def refusal(url: str) -> str:
    with pytest.raises(StartupRefused) as refused:
        open_database(url)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_fresh_database_is_what_the_tables_say(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_partial_indexes_and_options_are_in_the_migrations_too(engine: Engine) -> None:
    """What alembic does not compare: the very words of every table and index."""
    wanted = {
        index.name: str(CreateIndex(index).compile(dialect=sqlite.dialect()))
        for table in schema.metadata.tables.values()
        for index in table.indexes
    }
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        found = {name: sql for name, sql in rows if not name.startswith("sqlite_")}
        options = connection.exec_driver_sql("SELECT name, wr FROM pragma_table_list").all()
    assert {name: _plain(sql) for name, sql in found.items()} == {
        name: _plain(sql) for name, sql in wanted.items()
    }
    without_rowid = {name for name, wr in options if wr}
    assert without_rowid == {
        "guests",
        "held_keys",
        "instructions",
        "outcomes",
        "protections",
        "requests",
    }


def _plain(sql: str) -> str:
    return " ".join(sql.replace('"', "").split())


def test_migrations_run_down_and_up_again(engine: Engine) -> None:
    config = migration_config()
    with engine.execution_options(sparekey_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "base")
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        alembic.command.upgrade(config, "head")
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_an_open_database_keeps_what_it_holds(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with opened(url) as engine:
        first = read_identity(engine)
    with opened(url) as engine:
        assert read_identity(engine) == first
        with engine.connect() as connection:
            assert len(connection.execute(select(schema.facts)).all()) == 2
    assert first.installation_id.startswith("installation-")
    assert len(first.page_token_secret) == 32


def test_two_installations_have_two_identities(tmp_path: Path) -> None:
    identities = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with opened(sqlite_url(tmp_path / name)) as engine:
            identities.append(read_identity(engine))
    assert identities[0].installation_id != identities[1].installation_id
    assert identities[0].page_token_secret != identities[1].page_token_secret


def test_a_newer_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with opened(url):
        pass
    path = tmp_path / "sparekey.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    message = refusal(url)
    assert "newer release (schema 9999)" in message
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0garbage"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sparekey.db"
    path.write_bytes(content)
    assert str(path) in refusal(sqlite_url(tmp_path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite", "not a database URL"),
        ("postgresql://somewhere/db", "SQLite, not in postgresql"),
        ("nosuch://x", "not in nosuch"),
        ("sqlite:////nowhere/at/all/x.db", "/nowhere/at/all/x.db"),
    ],
)
def test_what_cannot_be_opened_is_refused(url: str, words: str) -> None:
    assert words in refusal(url)


def test_a_password_in_the_url_is_not_told() -> None:
    assert "secret" not in refusal("postgresql://me:secret@somewhere/db")


def test_connections_are_durable_and_keep_references(engine: Engine) -> None:
    with engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_reader_sees_one_state_however_long_it_reads(engine: Engine) -> None:
    writing = engine.execution_options(sparekey_writes=True)
    with engine.connect() as reader:
        before = reader.execute(select(schema.facts)).all()
        with writing.begin() as writer:
            writer.execute(schema.facts.insert().values(name="new", value=""))
        assert reader.execute(select(schema.facts)).all() == before
    with engine.connect() as reader:
        assert len(reader.execute(select(schema.facts)).all()) == len(before) + 1


instants = st.datetimes(
    min_value=datetime.min,  # noqa: DTZ901 - the zone is told beside it
    max_value=datetime.max,  # noqa: DTZ901
    timezones=st.just(UTC),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instant=st.one_of(st.none(), instants))
def test_R81_an_instant_comes_back_to_the_microsecond(
    shared_engine: Engine, instant: datetime | None
) -> None:
    with shared_engine.execution_options(sparekey_writes=True).begin() as connection:
        connection.execute(schema.keys.delete())
        connection.execute(schema.keys.insert().values(_key_row(expires_at=instant)))
        assert connection.scalar(select(schema.keys.c.expires_at)) == instant
        stored = connection.exec_driver_sql("SELECT expires_at FROM keys").scalar()
    if instant is not None:
        span = instant - datetime(1970, 1, 1, tzinfo=UTC)
        assert stored == span // timedelta(microseconds=1)


@given(first=instants, second=instants)
def test_R81_stored_instants_compare_as_instants_do(first: datetime, second: datetime) -> None:
    instant: Any = schema.Instant()
    stored = [instant.process_bind_param(one, None) for one in (first, second)]
    assert (stored[0] < stored[1]) == (first < second)


def test_an_instant_of_another_zone_is_the_same_instant() -> None:
    instant: Any = schema.Instant()
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    stored = instant.process_bind_param(elsewhere, None)
    assert stored == instant.process_bind_param(NOW, None)
    assert instant.process_result_value(stored, None) == NOW


def _key_row(**more: Any) -> dict[str, Any]:
    return {
        "serial": "ABCD-ABCDEF-ABCDEF01",
        "type": "SERVER",
        "kind": "SUBSCRIPTION",
        "edition": "STANDARD",
        "origin": "KEY_FILE",
        "unit_limit": 1,
        "not_before": NOW,
        "key_file": b"",
        "added_at": NOW,
        "in_storage": True,
    } | more
