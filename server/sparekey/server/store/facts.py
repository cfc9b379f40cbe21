"""Single facts of this installation, by name."""

from __future__ import annotations

from sqlalchemy import Connection, select

from sparekey.server.store import schema
from sparekey.server.store.bulk import upsert

_facts = schema.facts


def read_fact(connection: Connection, name: str) -> str | None:
    """A fact's value; None where nothing was noted."""
    value: str | None = connection.scalar(select(_facts.c.value).where(_facts.c.name == name))
    return value


def write_fact(connection: Connection, name: str, value: str) -> None:
    """Note a fact in place of what was noted before."""
    statement = upsert(_facts, ("name",), ("value",))
    connection.execute(statement.values(name=name, value=value))
