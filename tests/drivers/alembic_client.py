"""Alembic: a schema goes up to the head and down to the base, with each of the drivers."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from checks import check, raises, run

METADATA = sa.MetaData()
sa.Table(
    "towns",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("climate", sa.Enum("dry", "wet", name="climate"), nullable=False),
    sa.Column("people", sa.Integer, nullable=False),
    sa.Index("towns_people", "people"),
)


def goes_up_and_down(place, driver):
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    url = place.dsn.replace("postgresql:", f"postgresql+{driver}:")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.attributes["metadata"] = METADATA
    command.upgrade(config, "head")
    # Reads the catalogs, and compares.
    command.check(config)
    assert tables(place) == {"alembic_version", "towns"}
    assert ask(place, "SELECT sum(people), count(*) FROM towns") == [(690, 100)]
    command.downgrade(config, "-2")
    with raises(CommandError):
        command.check(config)
    assert ask(place, "SELECT count(*) FROM towns") == [(0,)]
    command.upgrade(config, "+1")
    assert ask(place, "SELECT version_num FROM alembic_version") == [("0002",)]
    command.downgrade(config, "base")
    assert tables(place) == {"alembic_version"}
    assert ask(place, "SELECT typname FROM pg_type WHERE typname = 'climate'") == []


def ask(place, sql):
    engine = sa.create_engine(place.dsn.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as db:
        rows = [tuple(row) for row in db.execute(sa.text(sql))]
    engine.dispose()
    return rows


def tables(place):
    sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return {name for (name,) in ask(place, sql)}


@check
def goes_up_and_down_with_psycopg2(place):
    goes_up_and_down(place, "psycopg2")


@check
def goes_up_and_down_with_psycopg(place):
    goes_up_and_down(place, "psycopg")


@check
def goes_up_and_down_with_asyncpg(place):
    goes_up_and_down(place, "asyncpg")


run()
