"""Opening the database: its engine, its migrations, its identity."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from sparekey.runtime.startup import StartupRefused
from sparekey.server.store import schema

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """What an installation keeps for life: its id and the secret behind its page tokens."""

    installation_id: str
    page_token_secret: bytes


def sqlite_url(folder: Path) -> str:
    """The URL of the embedded database in a data folder."""
    return f"sqlite:///{folder / 'sparekey.db'}"


def open_database(url: str) -> Engine:
    """Connect, bring the schema up to date, and return the engine.

    Raises:
        StartupRefused: the URL is no SQLite URL, the file cannot be opened or is
            from a newer release.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, NoSuchModuleError):
        raise StartupRefused(
            f"{url!r} is not a database URL; write sqlite:////PATH/TO/FILE.db"
        ) from None
    if parsed.get_backend_name() != "sqlite":
        raise StartupRefused(
            f"this release keeps its state in SQLite, not in {parsed.get_backend_name()};"
            " write sqlite:////PATH/TO/FILE.db"
        )
    engine = connect_database(url)
    try:
        _migrate(engine)
    except DBAPIError as error:
        raise StartupRefused(
            f"cannot open the database {parsed.render_as_string()} ({error.orig}); name another"
            " or mend it"
        ) from None
    return engine


def connect_database(url: str) -> Engine:
    """The engine of a database that is up to date."""
    engine = create_engine(url, connect_args={"cached_statements": 512})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def read_identity(engine: Engine) -> Identity:
    """This installation's identity, made at the first start."""
    with engine.execution_options(sparekey_writes=True).begin() as connection:
        known = {row.name: row.value for row in connection.execute(select(schema.facts))}
        for name, value in (
            ("installation_id", f"installation-{secrets.token_hex(8)}"),
            ("page_token_secret", secrets.token_hex(32)),
        ):
            if name not in known:
                connection.execute(insert(schema.facts).values(name=name, value=value))
                known[name] = value
    return Identity(known["installation_id"], bytes.fromhex(known["page_token_secret"]))


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transactions begin too late for a consistent read; we begin ourselves.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "cache_size = -65536",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediately(connection: Any) -> None:
    # Reads (autobegun) need a snapshot only; the writer asks for the lock at once.
    writes = connection.get_execution_options().get("sparekey_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migration_config() -> Config:
    """Alembic's configuration; the migrations ship in the package."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _migrate(engine: Engine) -> None:
    config = migration_config()
    scripts = ScriptDirectory.from_config(config)
    with engine.execution_options(sparekey_writes=True).begin() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None:
            try:
                scripts.get_revision(present)
            except CommandError:
                raise StartupRefused(
                    f"the database is from a newer release (schema {present}); start that"
                    " release, or name another database"
                ) from None
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
