"""How Alembic connects here: with a driver for threads, or with one for asyncio."""

import asyncio

from alembic import context
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool


def migrate(connection):
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes["metadata"],
        # One of them leaves its transaction for a while.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_in_a_task(url):
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


url = make_url(context.config.get_main_option("sqlalchemy.url"))
if url.get_driver_name() == "asyncpg":
    asyncio.run(migrate_in_a_task(url))
else:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        migrate(connection)
