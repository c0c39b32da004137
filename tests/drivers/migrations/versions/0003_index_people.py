"""Build an index outside of a transaction."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("towns_people", "towns", ["people"], postgresql_concurrently=True)


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("towns_people", "towns", postgresql_concurrently=True)
