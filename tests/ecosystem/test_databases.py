"""Clients of databases, each against a server of its own: asyncpg, psycopg, redis."""

import asyncio
import contextlib
import datetime
import decimal

import pytest
from support import use

# -- asyncpg -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def asyncpg_connection(postgres):
    connection = await use("asyncpg").connect(
        host=postgres, user="bench", database="postgres"
    )
    try:
        yield connection
    finally:
        await connection.close()


async def test_asyncpg_types(loop, postgres):
    values = [
        42,
        "text" * 1000,
        b"\0\xff" * 100_000,
        decimal.Decimal("1.50"),
        datetime.datetime(2026, 1, 2, 3, 4, 5),
        [1, None, 3],
    ]
    async with asyncpg_connection(postgres) as connection:
        row = await connection.fetchrow(
            "select $1::int, $2::text, $3::bytea, $4::numeric, $5::timestamp, $6::int[]",
            *values,
        )
    assert list(row) == values


async def test_asyncpg_copies_both_ways(loop, postgres):
    rows = [(number, f"row {number}" * 10) for number in range(5000)]
    async with asyncpg_connection(postgres) as connection:
        await connection.execute("create temp table item (number int, text text)")
        await connection.copy_records_to_table("item", records=rows)
        assert [tuple(row) for row in await connection.fetch("table item")] == rows
        copied = bytearray()

        async def keep(data):
            copied.extend(data)

        await connection.copy_from_table("item", output=keep)
        assert copied.decode().splitlines() == [f"{n}\t{text}" for n, text in rows]


async def test_asyncpg_rolls_back(loop, postgres):
    asyncpg = use("asyncpg")
    async with asyncpg_connection(postgres) as connection:
        await connection.execute("create temp table item (number int unique)")
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("insert into item values (1), (1)")
        assert await connection.fetchval("select count(*) from item") == 0


async def test_asyncpg_pool(loop, postgres):
    """More queries at once than connections."""
    asyncpg = use("asyncpg")
    kwargs = {"host": postgres, "user": "bench", "database": "postgres"}
    async with asyncpg.create_pool(min_size=2, max_size=4, **kwargs) as pool:
        answers = await asyncio.gather(
            *(pool.fetchval("select $1::int * 2", number) for number in range(50))
        )
    assert answers == [number * 2 for number in range(50)]


async def test_asyncpg_is_told_by_another(loop, postgres):
    heard = loop.create_future()
    async with (
        asyncpg_connection(postgres) as one,
        asyncpg_connection(postgres) as other,
    ):
        await one.add_listener("news", lambda *args: heard.set_result(args[3]))
        await other.execute("notify news, 'of the other'")
        assert await heard == "of the other"


async def test_asyncpg_times_out(loop, postgres):
    """The server is told to give up; the connection goes on."""
    async with asyncpg_connection(postgres) as connection:
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("select pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("select 1") == 1


# -- psycopg -----------------------------------------------------------------------


def psycopg_connection(postgres):
    connect = use("psycopg").AsyncConnection.connect
    return connect(host=postgres, user="bench", dbname="postgres", autocommit=True)


async def test_psycopg_answers(loop, postgres):
    values = (42, "text" * 1000, b"\0\xff" * 100_000, [1, None, 3])
    async with await psycopg_connection(postgres) as connection:
        cursor = await connection.execute(
            "select %s::int, %s::text, %s::bytea, %s::int[]", values
        )
        assert await cursor.fetchone() == values


async def test_psycopg_copies_both_ways(loop, postgres):
    rows = [(number, f"row {number}" * 10) for number in range(5000)]
    async with await psycopg_connection(postgres) as connection:
        await connection.execute("create temp table item (number int, text text)")
        async with connection.cursor() as cursor:
            async with cursor.copy("copy item from stdin") as copy:
                for row in rows:
                    await copy.write_row(row)
            async with cursor.copy("copy item to stdout") as copy:
                copy.set_types(["int4", "text"])
                assert [row async for row in copy.rows()] == rows


async def test_psycopg_reads_by_pieces(loop, postgres):
    async with await psycopg_connection(postgres) as connection:
        async with connection.transaction(), connection.cursor("pieces") as cursor:
            await cursor.execute("select generate_series(1, 1000)")
            cursor.itersize = 100
            assert [row async for row in cursor] == [(n,) for n in range(1, 1001)]


async def test_psycopg_pipeline(loop, postgres):
    async with await psycopg_connection(postgres) as connection:
        async with connection.pipeline():
            cursors = [
                await connection.execute("select %s::int", (number,))
                for number in range(200)
            ]
            answers = [(await cursor.fetchone())[0] for cursor in cursors]
    assert answers == list(range(200))


async def test_psycopg_many_at_once(loop, postgres):
    async def ask(number):
        async with await psycopg_connection(postgres) as connection:
            cursor = await connection.execute("select %s::int * 2", (number,))
            return (await cursor.fetchone())[0]

    assert await asyncio.gather(*map(ask, range(10))) == list(range(0, 20, 2))


async def test_psycopg_is_told_by_another(loop, postgres):
    one, other = [await psycopg_connection(postgres) for _ in range(2)]
    async with one, other:
        await one.execute("listen news")
        await other.execute("notify news, 'of the other'")
        async for told in one.notifies(stop_after=1, timeout=10):
            assert told.payload == "of the other"
            break
        else:
            pytest.fail("was told nothing")


async def test_psycopg_is_cancelled(loop, postgres):
    """A cancelled task has the server give up, and then ends."""
    async with (
        await psycopg_connection(postgres) as connection,
        await psycopg_connection(postgres) as other,
    ):
        asking = loop.create_task(connection.execute("select pg_sleep(60)"))
        query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        while (await (await other.execute(query)).fetchone())[0] == 0:
            pass
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await (await other.execute(query)).fetchone())[0] == 0


# -- redis -------------------------------------------------------------------------


@pytest.fixture
def redis_client(redis_path):
    """Makes clients of an emptied server."""
    redis = use("redis.asyncio")

    @contextlib.asynccontextmanager
    async def make(**kwargs):
        client = redis.Redis(unix_socket_path=redis_path, **kwargs)
        try:
            await client.flushall()
            yield client
        finally:
            await client.aclose()

    return make


async def test_redis_keeps_values(loop, redis_client):
    big = bytes(range(256)) * 10_000
    async with redis_client() as client:
        assert await client.set("big", big) is True
        assert await client.get("big") == big
        assert await client.get("nothing") is None
        await client.hset("fruit", mapping={"apple": 1, "pear": 2})
        assert await client.hgetall("fruit") == {b"apple": b"1", b"pear": b"2"}


async def test_redis_pipeline(loop, redis_client):
    async with redis_client(decode_responses=True) as client:
        async with client.pipeline(transaction=True) as pipeline:
            for number in range(500):
                pipeline.set(f"key {number}", number)
                pipeline.incr("count")
            assert (await pipeline.execute())[1::2] == list(range(1, 501))
        assert await client.dbsize() == 501


async def test_redis_many_at_once(loop, redis_client):
    async with redis_client() as client:
        answers = await asyncio.gather(*(client.incr("count") for _ in range(30)))
    assert sorted(answers) == list(range(1, 31))


async def test_redis_publishes(loop, redis_client):
    async with redis_client(decode_responses=True) as client:
        async with client.pubsub() as channel:
            await channel.subscribe("news")
            heard = channel.listen()
            assert (await anext(heard))["type"] == "subscribe"
            for number in range(50):
                assert await client.publish("news", number) == 1
            told = [(await anext(heard))["data"] for _ in range(50)]
    assert told == [str(number) for number in range(50)]


async def test_redis_waits_for_a_value(loop, redis_client):
    """One connection blocks until another has pushed; cancelled, it is given up."""
    async with redis_client() as client:
        waiting = loop.create_task(client.blpop(["list"], timeout=30))
        while (await client.info("clients"))["blocked_clients"] == 0:
            pass
        await client.rpush("list", "value")
        assert list(await waiting) == [b"list", b"value"]
        waiting = loop.create_task(client.blpop(["list"], timeout=30))
        while (await client.info("clients"))["blocked_clients"] == 0:
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await client.ping() is True
