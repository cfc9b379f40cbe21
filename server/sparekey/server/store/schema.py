"""The tables. Instants are whole microseconds since 1970 in UTC, enums are their names."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

from sparekey.server.store.bulk import read_instant, stored_instant


class Instant(TypeDecorator[datetime]):
    """An instant as whole microseconds, so that order and arithmetic are the database's own."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        """The stored number."""
        return stored_instant(value)

    def process_result_value(self, value: int | None, _dialect: Dialect) -> datetime | None:
        """The instant in UTC."""
        return read_instant(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    }
)

facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="Single facts of this installation: its id, its page-token secret.",
)

keys = Table(
    "keys",
    metadata,
    Column("serial", String(32), primary_key=True),
    Column("type", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("edition", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("unit_limit", Integer, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("expires_at", Instant, index=True),
    Column("key_file", LargeBinary, nullable=False),
    Column("added_at", Instant, nullable=False),
    Column("blocked_at", Instant),
    Column("code_ending", String(5), nullable=False, server_default=""),
    Column("renews_serial", String(32)),
    # When the one renewal by code was tried at the key's end (R88).
    Column("renewal_tried_at", Instant),
    # False: taken out of the storage. The row stays, for SVMs that run on it (R98).
    Column("in_storage", Boolean, nullable=False),
)

svms = Table(
    "svms",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("cluster", String(100), nullable=False, server_default="", index=True),
    Column("servers", Integer, nullable=False, server_default="0"),
    Column("desktops", Integer, nullable=False, server_default="0"),
    Column("unknown", Integer, nullable=False, server_default="0"),
    Column("host_uuid", String(64), nullable=False, server_default=""),
    Column("processors", Integer, nullable=False, server_default="0"),
    Column("cores", Integer, nullable=False, server_default="0"),
    Column("keyring_revision", BigInteger, nullable=False, server_default="0"),
    Column("report_sequence", BigInteger, nullable=False, server_default="0"),
    Column("report_digest", LargeBinary),
    # The highest version given to an instruction for this SVM.
    Column("instruction_version", BigInteger, nullable=False, server_default="0"),
    Column("agent_version", String(64), nullable=False, server_default=""),
    Column("boot_id", String(64), nullable=False, server_default=""),
    Column("registered_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("excluded", Boolean, nullable=False, server_default=false()),
    Column("push_stalled", Boolean, nullable=False, server_default=false()),
)

clock_skews = Table(
    "clock_skews",
    metadata,
    Column("svm_id", ForeignKey("svms.id", ondelete="CASCADE"), primary_key=True),
    Column("found_at", Instant, nullable=False),
    # By how many seconds the SVM's clock was ahead; NULL: not known.
    Column("skew", BigInteger),
    comment="SVMs whose clocks were found to differ from the server's (R82).",
)

void_keys = Table(
    "void_keys",
    metadata,
    # No reference: what voided the keys outlasts the SVM's being forgotten.
    Column("svm_id", String(63), primary_key=True),
    Column("voided_at", Instant, nullable=False),
    # When the SVM connected for the first time after it was forgotten.
    Column("registered_again_at", Instant),
    comment="SVMs whose keys lost their effect when their clocks were changed (R54, R82).",
)

held_keys = Table(
    "held_keys",
    metadata,
    Column("svm_id", ForeignKey("svms.id", ondelete="CASCADE"), primary_key=True),
    Column("type", String(16), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("serial", String(32), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("edition", String(16), nullable=False),
    Column("installed_at", Instant, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("ended_at", Instant),
    Column("blocked_at", Instant),
    comment="Each SVM's keyring as it was last reported.",
    sqlite_with_rowid=False,
)

instructions = Table(
    "instructions",
    metadata,
    Column("svm_id", ForeignKey("svms.id", ondelete="CASCADE"), primary_key=True),
    Column("type", String(16), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("version", BigInteger, nullable=False),
    # KEY, REMOVE or BLOCKED.
    Column("action", String(16), nullable=False),
    Column("serial", String(32)),
    Column("task_id", String(45)),
    # PENDING, DONE or WITHDRAWN.
    Column("state", String(16), nullable=False),
    comment="The newest instruction for each slot; older ones are not kept.",
    sqlite_with_rowid=False,
)
Index(
    "ix_instructions_pending",
    instructions.c.svm_id,
    sqlite_where=instructions.c.state == "PENDING",
    postgresql_where=instructions.c.state == "PENDING",
)

tasks = Table(
    "tasks",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(45), nullable=False, unique=True),
    Column("serial", String(32), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scope", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("deadline_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("total", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("applied", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("superseded", Integer, nullable=False),
    Column("deadline_exceeded", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("created_by", String(200), nullable=False),
    # Advice for the installation as a whole, names separated by commas.
    Column("advice", String(200), nullable=False, server_default=""),
    # The task of which this is another run (R61).
    Column("rerun_of", String(45), nullable=False, server_default=""),
)
Index(
    "ix_tasks_running",
    tasks.c.deadline_at,
    sqlite_where=tasks.c.state == "RUNNING",
    postgresql_where=tasks.c.state == "RUNNING",
)
Index(
    "ix_tasks_running_serial",
    tasks.c.serial,
    sqlite_where=tasks.c.state == "RUNNING",
    postgresql_where=tasks.c.state == "RUNNING",
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("task_id", String(45), primary_key=True),
    Column("svm_id", String(63), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("reason", String(32)),
    Column("advice", String(200), nullable=False, server_default=""),
    Column("finished_at", Instant),
    Column("instruction_version", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("cursor", Integer, primary_key=True, autoincrement=True),
    Column("kind", Integer, nullable=False),
    Column("svm_id", String(63)),
    Column("serial", String(32)),
    Column("task_id", String(45)),
    # The whole sparekey.v1.Event but its cursor.
    Column("content", LargeBinary, nullable=False),
    comment="The append-only history.",
    sqlite_autoincrement=True,
)
for _name in ("svm_id", "serial", "task_id"):
    Index(
        f"ix_events_{_name}",
        events.c[_name],
        events.c.cursor,
        sqlite_where=events.c[_name].is_not(None),
        postgresql_where=events.c[_name].is_not(None),
    )

requests = Table(
    "requests",
    metadata,
    Column("actor", String(200), primary_key=True),
    Column("method", String(100), primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False, index=True),
    comment="Answers to calls that carried a request id, so that a retry gets the same one.",
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("token_id", String(32), nullable=False, unique=True),
    # OPERATOR or JOIN.
    Column("kind", String(16), nullable=False),
    # SHA-256 over the secret, which is stored nowhere.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("svm_id", String(63), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("revoked_at", Instant),
    Column("used_at", Instant),
    Column("used_key", LargeBinary),
    # A JSON list of names; empty for all clusters.
    Column("clusters", Text, nullable=False, server_default="[]"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("serial", String(40), nullable=False, unique=True),
    # No reference: an SVM has its first certificate before it first connects.
    Column("svm_id", String(63), nullable=False, index=True),
    Column("key_digest", LargeBinary, nullable=False),
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    comment="Certificates that were issued to SVMs, and others that were revoked.",
)

banned_svms = Table(
    "banned_svms",
    metadata,
    Column("svm_id", String(63), primary_key=True),
    Column("banned_at", Instant, nullable=False),
    Column("banned_by", String(200), nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("serial", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("said_at", Instant, nullable=False),
    Column("ends_at", Instant),
    # Whole microseconds.
    Column("grace", BigInteger, nullable=False),
    Column("stops_protection", Boolean, nullable=False),
    Column("provider_url", Text, nullable=False),
    Column("polled_at", Instant, nullable=False),
    # NULL: nobody asks any more (R60).
    Column("next_poll_at", Instant),
    # Changes that time alone brings were told up to here.
    Column("told_until", Instant, nullable=False),
    comment="What the provider of each subscription's key said last.",
)

key_tellings = Table(
    "key_tellings",
    metadata,
    Column("serial", String(32), primary_key=True),
    # The end that the last expiry notice was about, and its days (R93).
    Column("noticed_end", Instant),
    Column("noticed_days", Integer),
    # The band of usage that was told last, and the ordinal of the UTC day (R92).
    Column("band", Integer, nullable=False, server_default="0"),
    Column("band_day", Integer),
    comment="What was told of each key, so that it is told once.",
)

block_graces = Table(
    "block_graces",
    metadata,
    Column("serial", String(32), primary_key=True),
    # Whole microseconds.
    Column("grace", BigInteger, nullable=False),
    comment="For how long a blocked key works on, where its issuer says so (R95).",
)

guest_listers = Table(
    "guest_listers",
    metadata,
    Column("svm_id", ForeignKey("svms.id", ondelete="CASCADE"), primary_key=True),
    comment="The SVMs that report their guests one by one; the others report counts.",
)

guests = Table(
    "guests",
    metadata,
    Column("svm_id", ForeignKey("svms.id", ondelete="CASCADE"), primary_key=True),
    Column("instance_uuid", String(64), primary_key=True),
    # NULL: unknown, counts as a server.
    Column("os_class", String(16)),
    # NULL: protected now.
    Column("last_protected_at", Instant),
    Column("counted", Boolean, nullable=False),
    comment="The guests beside each SVM, as last reported (R69, R91).",
    sqlite_with_rowid=False,
)

protections = Table(
    "protections",
    metadata,
    Column("serial", String(32), primary_key=True),
    Column("instance_uuid", String(64), primary_key=True),
    Column("last_protected_at", Instant, nullable=False, index=True),
    comment="Guests that a key covered until they moved, went, or their SVM got another key.",
    sqlite_with_rowid=False,
)
