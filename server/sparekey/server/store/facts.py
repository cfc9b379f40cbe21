"""Single facts of this installation, by name."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects import sqlite

from sparekey.server.store import schema

_facts = schema.facts


def read_fact(connection: Connection, name: str) -> str | None:
    """A fact's value; None where nothing was noted."""
    value: str | None = connection.scalar(select(_facts.c.value).where(_facts.c.name == name))
    return value


def write_fact(connection: Connection, name: str, value: str) -> None:
    """Note a fact in place of what was noted before."""
    statement = sqlite.insert(_facts).values(name=name, value=value)
    connection.execute(
        statement.on_conflict_do_update(index_elements=("name",), set_={"value": value})
    )
