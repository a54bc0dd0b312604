"""aiosqlite: a database that does not hold up the loop.

Teaches aiosqlite: a connection as an async context manager, parameters instead of
pasted SQL, rows read with `async for`, and a transaction that is rolled back as a
whole when a part of it fails.

Prints the tickets sold for each concert, a sale that is refused, and that nothing of
the refused sale was kept.

    python examples/sqlite_tickets.py
"""

import sys

import asyncfast

try:
    import aiosqlite
except ImportError as missing:
    sys.exit(
        "sqlite_tickets.py needs aiosqlite: "
        f"python -m pip install aiosqlite ({missing})"
    )

SCHEMA = """
CREATE TABLE concert (name TEXT PRIMARY KEY, seats INTEGER CHECK (seats >= 0));
CREATE TABLE ticket (concert TEXT REFERENCES concert, holder TEXT);
"""
CONCERTS = [("Fado night", 3), ("String quartet", 2)]


async def sell(db: aiosqlite.Connection, concert: str, holders: list[str]) -> None:
    """Sell tickets to all of them, or to none."""
    try:
        for holder in holders:
            await db.execute("INSERT INTO ticket VALUES (?, ?)", (concert, holder))
            await db.execute(
                "UPDATE concert SET seats = seats - 1 WHERE name = ?", (concert,)
            )
    except aiosqlite.IntegrityError:
        await db.rollback()
        print(f"{concert}: not enough seats for {', '.join(holders)}")
    else:
        await db.commit()
        print(f"{concert}: sold to {', '.join(holders)}")


async def report(db: aiosqlite.Connection) -> None:
    query = """
        SELECT name, count(holder), seats FROM concert
        LEFT JOIN ticket ON concert = name GROUP BY name ORDER BY name
    """
    async with db.execute(query) as rows:
        async for name, sold, seats in rows:
            print(f"{name}: {sold} sold, {seats} left")


async def main() -> None:
    async with aiosqlite.connect(":memory:") as db:
        await db.executescript(SCHEMA)
        await db.executemany("INSERT INTO concert VALUES (?, ?)", CONCERTS)
        await db.commit()
        await sell(db, "Fado night", ["Rosa", "Tomas"])
        await sell(db, "String quartet", ["Uma", "Viktor", "Wanda"])
        await report(db)


if __name__ == "__main__":
    asyncfast.run(main())
