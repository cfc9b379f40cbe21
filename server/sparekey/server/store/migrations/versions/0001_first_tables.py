"""The first tables.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("cursor", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("svm_id", sa.String(length=63), nullable=True),
        sa.Column("serial", sa.String(length=32), nullable=True),
        sa.Column("task_id", sa.String(length=45), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_events")),
        comment="The append-only history.",
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(
            "ix_events_serial",
            ["serial", "cursor"],
            unique=False,
            sqlite_where=sa.text("serial IS NOT NULL"),
            postgresql_where=sa.text("serial IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_events_svm_id",
            ["svm_id", "cursor"],
            unique=False,
            sqlite_where=sa.text("svm_id IS NOT NULL"),
            postgresql_where=sa.text("svm_id IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_events_task_id",
            ["task_id", "cursor"],
            unique=False,
            sqlite_where=sa.text("task_id IS NOT NULL"),
            postgresql_where=sa.text("task_id IS NOT NULL"),
        )

    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
        comment="Single facts of this installation: its id, its page-token secret.",
    )
    op.create_table(
        "keys",
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("edition", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("unit_limit", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("key_file", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("blocked_at", sa.BigInteger(), nullable=True),
        sa.Column("code_ending", sa.String(length=5), server_default="", nullable=False),
        sa.Column("renews_serial", sa.String(length=32), nullable=True),
        sa.Column("renewal_tried_at", sa.BigInteger(), nullable=True),
        sa.Column("in_storage", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_keys")),
    )
    op.create_table(
        "outcomes",
        sa.Column("task_id", sa.String(length=45), nullable=False),
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("advice", sa.String(length=200), server_default="", nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("instruction_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "svm_id", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("method", sa.String(length=100), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "method", "request_id", name=op.f("pk_requests")),
        comment="Answers to calls that carried a request id, so that a retry gets the same one.",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_requests_created_at"), ["created_at"], unique=False)

    op.create_table(
        "svms",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("cluster", sa.String(length=100), server_default="", nullable=False),
        sa.Column("servers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("desktops", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unknown", sa.Integer(), server_default="0", nullable=False),
        sa.Column("host_uuid", sa.String(length=64), server_default="", nullable=False),
        sa.Column("processors", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cores", sa.Integer(), server_default="0", nullable=False),
        sa.Column("keyring_revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("report_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("report_digest", sa.LargeBinary(), nullable=True),
        sa.Column("instruction_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("agent_version", sa.String(length=64), server_default="", nullable=False),
        sa.Column("boot_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("excluded", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("push_stalled", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_svms")),
    )
    with op.batch_alter_table("svms", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_svms_cluster"), ["cluster"], unique=False)

    op.create_table(
        "tasks",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=45), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("applied", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("superseded", sa.Integer(), nullable=False),
        sa.Column("deadline_exceeded", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("advice", sa.String(length=200), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tasks")),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_tasks_running",
            ["deadline_at"],
            unique=False,
            sqlite_where=sa.text("state = 'RUNNING'"),
            postgresql_where=sa.text("state = 'RUNNING'"),
        )
        batch_op.create_index(
            "ix_tasks_running_serial",
            ["serial"],
            unique=False,
            sqlite_where=sa.text("state = 'RUNNING'"),
            postgresql_where=sa.text("state = 'RUNNING'"),
        )

    op.create_table(
        "held_keys",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("edition", sa.String(length=16), nullable=False),
        sa.Column("installed_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("blocked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["svm_id"], ["svms.id"], name=op.f("fk_held_keys_svm_id_svms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("svm_id", "type", "role", name=op.f("pk_held_keys")),
        comment="Each SVM's keyring as it was last reported.",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("held_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_held_keys_serial"), ["serial"], unique=False)

    op.create_table(
        "instructions",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=True),
        sa.Column("task_id", sa.String(length=45), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["svm_id"], ["svms.id"], name=op.f("fk_instructions_svm_id_svms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("svm_id", "type", "role", name=op.f("pk_instructions")),
        comment="The newest instruction for each slot; older ones are not kept.",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("instructions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_instructions_pending",
            ["svm_id"],
            unique=False,
            sqlite_where=sa.text("state = 'PENDING'"),
            postgresql_where=sa.text("state = 'PENDING'"),
        )


def downgrade() -> None:
    with op.batch_alter_table("instructions", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_instructions_pending",
            sqlite_where=sa.text("state = 'PENDING'"),
            postgresql_where=sa.text("state = 'PENDING'"),
        )

    op.drop_table("instructions")
    with op.batch_alter_table("held_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_held_keys_serial"))

    op.drop_table("held_keys")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_tasks_running_serial",
            sqlite_where=sa.text("state = 'RUNNING'"),
            postgresql_where=sa.text("state = 'RUNNING'"),
        )
        batch_op.drop_index(
            "ix_tasks_running",
            sqlite_where=sa.text("state = 'RUNNING'"),
            postgresql_where=sa.text("state = 'RUNNING'"),
        )

    op.drop_table("tasks")
    with op.batch_alter_table("svms", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_svms_cluster"))

    op.drop_table("svms")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_requests_created_at"))

    op.drop_table("requests")
    op.drop_table("outcomes")
    op.drop_table("keys")
    op.drop_table("facts")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_events_task_id",
            sqlite_where=sa.text("task_id IS NOT NULL"),
            postgresql_where=sa.text("task_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_events_svm_id",
            sqlite_where=sa.text("svm_id IS NOT NULL"),
            postgresql_where=sa.text("svm_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_events_serial",
            sqlite_where=sa.text("serial IS NOT NULL"),
            postgresql_where=sa.text("serial IS NOT NULL"),
        )

    op.drop_table("events")
