"""to_thread: one line to move a blocking call out of the loop's way.

Teaches asyncio.to_thread(): checking a password is slow on purpose and would stop
every other user of the loop. Context variables travel along, so that what the thread
logs carries the request that it works for.

Prints who may log in, with the log lines of each request.

    python examples/to_thread.py
"""

import asyncio
import contextvars
import hashlib

import asyncfast

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
# Filled from threads: list.append() is safe there.
log: list[str] = []


def scramble(password: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"a salt", 20_000)


ACCOUNTS = {"ines": scramble("correct horse"), "jonas": scramble("battery staple")}


def password_fits(user: str, password: str) -> bool:
    """A blocking function: it computes for many milliseconds."""
    log.append(f"{request_id.get()}: checking the password of {user}")
    if user not in ACCOUNTS:
        raise LookupError(f"nobody is called {user}")
    return scramble(password) == ACCOUNTS[user]


async def log_in(number: int, user: str, password: str) -> str:
    request_id.set(f"request {number}")
    try:
        fits = await asyncio.to_thread(password_fits, user, password)
    except LookupError as error:
        return f"{user}: refused, {error}"
    return f"{user}: {'welcome' if fits else 'refused, wrong password'}"


async def main() -> None:
    answers = await asyncio.gather(
        log_in(1, "ines", "correct horse"),
        log_in(2, "jonas", "123456"),
        log_in(3, "mallory", "let me in"),
    )
    print("\n".join(answers))
    print("\n".join(sorted(log)))


if __name__ == "__main__":
    asyncfast.run(main())
