"""The life of licenses: subscriptions, usage, what was told of each key.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "block_graces",
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("grace", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_block_graces")),
        comment="For how long a blocked key works on, where its issuer says so (R95).",
    )
    op.create_table(
        "key_tellings",
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("noticed_end", sa.BigInteger(), nullable=True),
        sa.Column("noticed_days", sa.Integer(), nullable=True),
        sa.Column("band", sa.Integer(), server_default="0", nullable=False),
        sa.Column("band_day", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_key_tellings")),
        comment="What was told of each key, so that it is told once.",
    )
    op.create_table(
        "protections",
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("instance_uuid", sa.String(length=64), nullable=False),
        sa.Column("last_protected_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", "instance_uuid", name=op.f("pk_protections")),
        comment="Guests that a key covered until they moved, went, or their SVM got another key.",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("protections", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_protections_last_protected_at"), ["last_protected_at"], unique=False
        )

    op.create_table(
        "subscriptions",
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("grace", sa.BigInteger(), nullable=False),
        sa.Column("stops_protection", sa.Boolean(), nullable=False),
        sa.Column("provider_url", sa.Text(), nullable=False),
        sa.Column("polled_at", sa.BigInteger(), nullable=False),
        sa.Column("next_poll_at", sa.BigInteger(), nullable=True),
        sa.Column("told_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_subscriptions")),
        comment="What the provider of each subscription's key said last.",
    )
    op.create_table(
        "guest_listers",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["svm_id"], ["svms.id"], name=op.f("fk_guest_listers_svm_id_svms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("svm_id", name=op.f("pk_guest_listers")),
        comment="The SVMs that report their guests one by one; the others report counts.",
    )
    op.create_table(
        "guests",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("instance_uuid", sa.String(length=64), nullable=False),
        sa.Column("os_class", sa.String(length=16), nullable=True),
        sa.Column("last_protected_at", sa.BigInteger(), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["svm_id"], ["svms.id"], name=op.f("fk_guests_svm_id_svms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("svm_id", "instance_uuid", name=op.f("pk_guests")),
        comment="The guests beside each SVM, as last reported (R69, R91).",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("rerun_of", sa.String(length=45), server_default="", nullable=False)
        )


def downgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("rerun_of")

    op.drop_table("guests")
    op.drop_table("guest_listers")
    op.drop_table("subscriptions")
    with op.batch_alter_table("protections", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_protections_last_protected_at"))

    op.drop_table("protections")
    op.drop_table("key_tellings")
    op.drop_table("block_graces")
