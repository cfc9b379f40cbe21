"""The clusters to which a token is bound.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("clusters", sa.Text(), server_default="[]", nullable=False))


def downgrade() -> None:
    op.drop_column("tokens", "clusters")
