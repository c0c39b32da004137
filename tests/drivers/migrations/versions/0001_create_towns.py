"""Create towns, with an enum."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "towns",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("climate", sa.Enum("dry", "wet", name="climate"), nullable=False),
    )


def downgrade():
    op.drop_table("towns")
    op.execute("DROP TYPE climate")
