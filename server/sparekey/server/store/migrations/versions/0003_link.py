"""The SVMs whose clocks differ.

Revision ID: 0003
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clock_skews",
        sa.Column("svm_id", sa.String(length=63), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["svm_id"],
            ["svms.id"],
            name=op.f("fk_clock_skews_svm_id_svms"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("svm_id", name=op.f("pk_clock_skews")),
        comment="SVMs whose clocks were found to differ from the server's (R82).",
    )


def downgrade() -> None:
    op.drop_table("clock_skews")
