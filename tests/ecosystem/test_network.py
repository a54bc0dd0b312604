"""Libraries of the network and of files: aiodns, asyncssh, aiofiles."""

import asyncio
import contextlib
import os
import socket
import struct

import pytest
from support import descriptors, turns, until, use

# -- aiodns ------------------------------------------------------------------------

RECORDS = {b"one.test": "192.0.2.1", b"two.test": "192.0.2.2"}
NO_SUCH_NAME = 3


class NameServer(asyncio.DatagramProtocol):
    """Knows the addresses in RECORDS; of silent.test it says nothing at all."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, address):
        number, _, _, _, _, _ = struct.unpack("!6H", query[:12])
        name, at = self.name_in(query)
        if name == b"silent.test":
            return
        question = query[12 : at + 5]
        address_of = RECORDS.get(name)
        flags = 0x8180 | (0 if address_of else NO_SUCH_NAME)
        answer = struct.pack("!6H", number, flags, 1, bool(address_of), 0, 0) + question
        if address_of:
            record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4)
            answer += record + socket.inet_aton(address_of)
        self.transport.sendto(answer, address)

    def name_in(self, query):
        """(the name that is asked for, where its last byte is)."""
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]])
            at += 1 + query[at]
        return b".".join(labels).lower(), at


@pytest.fixture(scope="module", autouse=True)
def _pycares_started():
    """The thread that it keeps for the life of the process must not look like a leak."""
    with contextlib.suppress(ImportError):
        import pycares

        pycares.Channel().close()


@contextlib.asynccontextmanager
async def resolver(**kwargs):
    """aiodns, which asks a NameServer in the same loop."""
    aiodns = use("aiodns")
    loop = asyncio.get_running_loop()
    before = len(descriptors())
    transport, _ = await loop.create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    names = aiodns.DNSResolver(
        nameservers=["127.0.0.1"], udp_port=port, tcp_port=port, **kwargs
    )
    try:
        yield names
    finally:
        await names.close()
        transport.close()
        # Its thread ends a little later, and closes what it waited with.
        await until(lambda: len(descriptors()) <= before)


async def test_aiodns_answers(loop):
    async with resolver() as names:
        for name, address in RECORDS.items():
            result = await names.query_dns(name.decode(), "A")
            assert [record.data.addr for record in result.answer] == [address]


async def test_aiodns_many_at_once(loop):
    async with resolver() as names:
        results = await asyncio.gather(
            *(names.query_dns("one.test", "A") for _ in range(50))
        )
    assert {result.answer[0].data.addr for result in results} == {"192.0.2.1"}


async def test_aiodns_fails(loop):
    aiodns = use("aiodns")
    async with resolver(timeout=0.05, tries=1) as names:
        with pytest.raises(aiodns.error.DNSError, match="not found"):
            await names.query_dns("nothing.test", "A")
        with pytest.raises(aiodns.error.DNSError, match="[Tt]imeout"):
            await names.query_dns("silent.test", "A")


# -- asyncssh ----------------------------------------------------------------------


async def shell(process):
    """What a client's command runs: it answers each line, and tells of the end."""
    process.stdout.write(f"{process.command}\n")
    async for line in process.stdin:
        process.stdout.write(line.upper())
    process.stderr.write("bye\n")
    process.exit(7)


@pytest.fixture(scope="session")
def ssh_key():
    return use("asyncssh").generate_private_key("ssh-ed25519")


@pytest.fixture
def ssh(ssh_key):
    """A context manager of a connection to a server in the same loop."""
    asyncssh = use("asyncssh")

    class Server(asyncssh.SSHServer):
        def connection_requested(self, host, port, orig_host, orig_port):
            return host == "127.0.0.1"

    @contextlib.asynccontextmanager
    async def connected():
        clients = asyncssh.import_authorized_keys(
            ssh_key.export_public_key("openssh").decode()
        )
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[ssh_key],
            authorized_client_keys=clients,
            process_factory=shell,
            sftp_factory=True,
        )
        port = server.get_port()
        known = f"[127.0.0.1]:{port} {ssh_key.export_public_key().decode()}"
        async with asyncssh.connect(
            "127.0.0.1",
            port,
            username="test",
            client_keys=[ssh_key],
            known_hosts=asyncssh.import_known_hosts(known),
            config=None,
        ) as connection:
            yield connection
        server.close()
        await server.wait_closed()
        await turns(5)

    return connected()


async def test_asyncssh_runs_commands(loop, ssh):
    async with ssh as connection:
        done = await connection.run("words", input="one\ntwo\n")
        assert (done.stdout, done.stderr) == ("words\nONE\nTWO\n", "bye\n")
        assert done.exit_status == 7
        nothing = use("asyncssh").DEVNULL
        several = await asyncio.gather(
            *(connection.run(f"c{n}", stdin=nothing) for n in range(10))
        )
        assert [done.stdout for done in several] == [f"c{n}\n" for n in range(10)]


async def test_asyncssh_talks_to_a_command(loop, ssh):
    async with ssh as connection:
        async with connection.create_process("talk") as process:
            assert await process.stdout.readline() == "talk\n"
            for word in ("one\n", "two" * 1000 + "\n"):
                process.stdin.write(word)
                assert await process.stdout.readline() == word.upper()
            process.stdin.write_eof()
            await process.wait()
        assert process.exit_status == 7


async def test_asyncssh_copies_files(loop, ssh, tmp_path):
    data = os.urandom(1 << 20)
    (tmp_path / "source").write_bytes(data)
    async with ssh as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(tmp_path / "source", tmp_path / "there")
            await sftp.get(tmp_path / "there", tmp_path / "back")
            assert "there" in await sftp.listdir(tmp_path)
    assert (tmp_path / "back").read_bytes() == data


async def test_asyncssh_forwards_a_port(loop, ssh):
    async def upper(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    async with ssh as connection:
        port = server.sockets[0].getsockname()[1]
        forward = await connection.forward_local_port("", 0, "127.0.0.1", port)
        async with forward:
            to = forward.get_port()
            reader, writer = await asyncio.open_connection("127.0.0.1", to)
            writer.write(b"through\n")
            assert await reader.read() == b"THROUGH\n"
            writer.close()
            await writer.wait_closed()
    server.close()
    await server.wait_closed()


# -- aiofiles ----------------------------------------------------------------------


async def test_aiofiles_reads_and_writes(loop, tmp_path):
    aiofiles = use("aiofiles")
    lines = [f"line {number}\n" for number in range(200)]
    async with aiofiles.open(tmp_path / "file", "w") as file:
        await file.writelines(lines)
    async with aiofiles.open(tmp_path / "file") as file:
        assert [line async for line in file] == lines
        await file.seek(0)
        assert await file.read() == "".join(lines)
    with pytest.raises(FileNotFoundError):
        async with aiofiles.open(tmp_path / "nothing"):
            pass


async def test_aiofiles_many_at_once(loop, tmp_path):
    aiofiles = use("aiofiles")

    async def keep(number):
        async with aiofiles.open(tmp_path / str(number), "wb") as file:
            await file.write(b"%d" % number * 1000)
        async with aiofiles.open(tmp_path / str(number), "rb") as file:
            return await file.read()

    got = await asyncio.gather(*map(keep, range(50)))
    assert got == [b"%d" % number * 1000 for number in range(50)]
