"""SQLAlchemy's asyncio engine on asyncpg, with its statement cache and `pool_pre_ping`."""

import asyncio
import contextlib

from checks import CLIENTS, ROUNDS, SLEEPERS, TAGGED, Tally, check, raises, run
from sqlalchemy import Enum, ForeignKey, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, NotSupportedError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

TERMINATE_OTHERS = (
    "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
    " WHERE usename = current_user AND pid <> pg_backend_pid()"
)
TERMINATE_OWN = "SELECT pg_terminate_backend(pg_backend_pid())"


class Base(DeclarativeBase):
    """All tables of these checks."""


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    mood: Mapped[str] = mapped_column(Enum("sad", "merry", name="author_mood"))
    books: Mapped[list["Book"]] = relationship(lazy="selectin", order_by="Book.title")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))


@contextlib.asynccontextmanager
async def engine(place, **options):
    url = place.dsn.replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(url, pool_pre_ping=True, **options)
    try:
        yield engine
    finally:
        await engine.dispose()


async def value(db, sql, **args):
    return (await db.execute(text(sql), args)).scalar_one()


@check
async def connects(place):
    settings = {"server_settings": {"application_name": "usher's guest"}}
    async with engine(place, connect_args=settings) as sql, sql.connect() as db:
        assert sql.dialect.server_version_info >= (14,)
        assert await value(db, "SHOW application_name") == "usher's guest"


@check
async def pools_its_own_connections(place):
    async with engine(place, pool_size=2, max_overflow=4) as sql:

        async def ask(number):
            for n in range(5):
                async with sql.connect() as db:
                    assert await value(db, "SELECT :a + :b * 2", a=number, b=n) == number + 2 * n

        await asyncio.gather(*(ask(n) for n in range(12)))


@check
async def maps_objects_in_transactions(place):
    async with engine(place) as sql:
        async with sql.begin() as db:
            await db.run_sync(Base.metadata.drop_all)
            await db.run_sync(Base.metadata.create_all)
        session = async_sessionmaker(sql, expire_on_commit=False)
        async with session.begin() as db:
            for name in "ann", "ben":
                books = [Book(title=f"{name} {n}") for n in range(50)]
                db.add(Author(name=name, mood="merry", books=books))
        with raises(LookupError):
            async with session.begin() as db:
                db.add(Author(name="undone", mood="sad"))
                await db.flush()
                raise LookupError
        async with session() as db:
            authors = (await db.scalars(select(Author).order_by(Author.name))).all()
            assert [(it.name, it.mood, len(it.books)) for it in authors] == [
                ("ann", "merry", 50),
                ("ben", "merry", 50),
            ]
            streamed = await db.stream_scalars(select(Book.title).order_by(Book.id))
            assert len([title async for title in streamed]) == 100


@check
async def recovers_from_errors(place):
    async with engine(place) as sql:
        session = async_sessionmaker(sql)
        async with session() as db:
            for _ in range(3):
                db.add(Author(name="ann", mood="sad"))
                with raises(IntegrityError):
                    await db.commit()
                await db.rollback()
                async with db.begin_nested():
                    with raises(IntegrityError):
                        async with db.begin_nested():
                            db.add(Author(name="ben", mood="sad"))
                    assert await db.scalar(select(func.count(Author.id))) == 2
                with raises(DBAPIError) as division:
                    await db.execute(text("SELECT 1 / :zero"), {"zero": 0})
                assert division.error.orig.sqlstate == "22012"
                with raises(DBAPIError) as ignored:
                    await db.execute(select(Author))
                assert ignored.error.orig.sqlstate == "25P02"
                await db.rollback()
                assert await db.scalar(select(func.count(Author.id))) == 2


@check
async def copies_both_ways_through_the_driver(place):
    async with engine(place) as sql, sql.begin() as db:
        asyncpg = (await db.get_raw_connection()).driver_connection
        records = [(n, f"copied {n}", 1) for n in range(1000, 6000)]
        assert await asyncpg.copy_records_to_table("books", records=records) == "COPY 5000"
        taken = []

        async def take(data):
            taken.append(data)

        await asyncpg.copy_from_query("SELECT id FROM books WHERE id >= $1", 1000, output=take)
        assert len(b"".join(taken).split()) == 5000
        await db.rollback()


@check
async def times_out_and_cancels(place):
    async with engine(place) as sql, sql.connect() as db:
        for _ in range(3):
            with raises(DBAPIError) as timeout:
                await db.execute(text("SET LOCAL statement_timeout = 10"))
                await db.execute(text("SELECT pg_sleep(60)"))
            assert timeout.error.orig.sqlstate == "57014"
            await db.rollback()
    async with engine(place) as sql, sql.connect() as watcher:
        # A transaction would see who was active when it began.
        await watcher.execution_options(isolation_level="AUTOCOMMIT")
        for _ in range(3):

            async def sleep():
                async with sql.connect() as db:
                    await db.execute(text("SELECT pg_sleep(60)"))

            sleeps = asyncio.create_task(sleep())
            while await value(watcher, SLEEPERS) == 0:
                pass
            sleeps.cancel()
            with raises(asyncio.CancelledError):
                await sleeps
            while await value(watcher, SLEEPERS) > 0:
                pass


@check
async def hears_notices(place):
    async with engine(place) as sql, sql.connect() as db:
        heard = []
        asyncpg = (await db.get_raw_connection()).driver_connection
        asyncpg.add_log_listener(lambda _, message: heard.append(message.message))
        await db.execute(text("DO $$ BEGIN RAISE NOTICE 'look'; END $$"))
        assert heard == ["look"], heard


@check
async def goes_on_after_ddl(place):
    async with engine(place) as sql:
        async with sql.begin() as db:
            await db.execute(text("DROP TABLE IF EXISTS towns"))
            await db.execute(text("CREATE TABLE towns AS SELECT 'Lima' AS name"))

        async def ask():
            async with sql.connect() as db:
                return tuple((await db.execute(text("SELECT * FROM towns"))).one())

        row = ("Lima",)
        assert await ask() == row
        for number in range(3):
            async with sql.begin() as db:
                await db.execute(text(f"ALTER TABLE towns ADD COLUMN c{number} int DEFAULT 1"))
            # SQLAlchemy forgets its statements then, and leaves the next try to its user.
            with contextlib.suppress(NotSupportedError):
                await ask()
            row += (1,)
            assert [await ask() for _ in range(3)] == [row] * 3


@check
async def heals_when_servers_die_between_two_checkouts(place):
    async with engine(place, pool_size=3) as sql:
        for _ in range(3):
            async with sql.connect() as db, sql.connect() as other:
                # Two transactions at once, hence two servers.
                assert [await value(it, "SELECT 1") for it in (db, other)] == [1, 1]
                await other.rollback()
                killed = (await db.execute(text(TERMINATE_OTHERS))).scalars().all()
                assert killed and all(killed), killed
            for _ in range(5):
                async with sql.connect() as db:
                    assert await value(db, "SELECT 1") == 1


@check
async def heals_when_its_own_server_dies(place):
    async with engine(place, pool_size=3) as sql:
        for _ in range(3):
            async with sql.connect() as db:
                assert await value(db, "SELECT 1") == 1
                with raises(DBAPIError) as killed:
                    await db.execute(text(TERMINATE_OWN))
                assert killed.error.connection_invalidated
                with raises(InvalidRequestError):
                    await db.execute(text("SELECT 'ignored'"))
            for _ in range(5):
                async with sql.connect() as db:
                    assert await value(db, "SELECT 1") == 1


@check
async def gives_everybody_their_own_rows(place):
    tally = Tally()
    async with engine(place, pool_size=CLIENTS) as sql:
        async with sql.begin() as db:
            await db.execute(text("DROP TABLE IF EXISTS askers"))
            await db.execute(text("CREATE TABLE askers (asker text, number int)"))
        all_here = asyncio.Barrier(CLIENTS)

        async def ask(asker):
            asks = {"asker": asker}
            async with sql.connect() as db:
                # So that each has a connection of its own for good.
                await db.rollback()
                await all_here.wait()
                for number in range(ROUNDS):
                    everybodys = text(f"SELECT CAST(:asker AS text), {TAGGED}")
                    tally.take(asker, (await db.execute(everybodys, asks)).all())
                    await db.rollback()
                    own = text(f"SELECT '{asker}', {TAGGED}")
                    tally.take(asker, (await db.execute(own)).all())
                    insert = "INSERT INTO askers VALUES (:asker, :number)"
                    await db.execute(text(insert), {**asks, "number": number})
                    seen = "SELECT sum(number) FROM askers WHERE asker = :asker"
                    assert await value(db, seen, **asks) == sum(range(number + 1))
                    await db.commit()

        await asyncio.gather(*(ask(f"asker {n}") for n in range(CLIENTS)))
    tally.settle(place, answers=2 * ROUNDS)


run()
