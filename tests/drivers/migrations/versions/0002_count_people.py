"""Fill towns, and change rows and columns in one transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    towns = sa.table("towns", *(sa.column(name) for name in ("name", "climate", "people")))
    climate = sa.Enum("dry", "wet", name="climate")
    towns.c.climate.type = climate
    rows = [{"name": f"town {n}", "climate": ["dry", "wet"][n % 2]} for n in range(100)]
    op.bulk_insert(towns, rows)
    op.add_column("towns", sa.Column("people", sa.Integer))
    op.execute(towns.update().values(people=sa.func.length(towns.c.name)))
    op.alter_column("towns", "people", nullable=False)


def downgrade():
    op.drop_column("towns", "people")
    op.execute("DELETE FROM towns")
