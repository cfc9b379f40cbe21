"""SVMs whose keys are void, by how much clocks differ, and keys in the order of their ends.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "void_keys",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("voided_at", sa.BigInteger(), nullable=False),
        sa.Column("registered_again_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("svm_id", name=op.f("pk_void_keys")),
        comment="SVMs whose keys lost their effect when their clocks were changed (R54, R82).",
    )
    op.create_index(op.f("ix_keys_expires_at"), "keys", ["expires_at"])
    op.add_column("clock_skews", sa.Column("skew", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_index(op.f("ix_keys_expires_at"), "keys")
    with op.batch_alter_table("clock_skews", schema=None) as batch_op:
        batch_op.drop_column("skew")
    op.drop_table("void_keys")
