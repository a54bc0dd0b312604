"""How long a user waits while every loop has the same to do.

All are loaded at one rate, 70 % of what the slowest can bear; a reply's latency counts
from when its request was due. The figure is the latency that one in a hundred exceeds, the
median of twenty stretches.
"""

import rows_network
import rows_programs
import talks
from registry import Load, served

KIB = 1024
ECHOES = [Load(KIB, 100)]
REQUESTS = [Load(0, 100)]


@served("p99, protocol echo", ECHOES, steady=True)
async def latency_protocol(loop, sock):
    return await rows_network.protocol_echo(loop, sock)


@served("p99, streams echo", ECHOES, steady=True)
async def latency_streams(loop, sock):
    return await rows_network.streams_echo(loop, sock)


@served("p99, TLS echo", ECHOES, steady=True, tls=True)
async def latency_tls(loop, sock, context):
    return await rows_network.tls_echo(loop, sock, context)


@served(
    "p99, aiohttp server", REQUESTS, steady=True, talk=talks.http, needs=("aiohttp",)
)
async def latency_aiohttp(loop, sock):
    return await rows_programs.aiohttp_server(loop, sock)


@served(
    "p99, uvicorn, httptools and FastAPI",
    REQUESTS,
    steady=True,
    talk=talks.http,
    needs=("uvicorn", "httptools", "fastapi"),
)
async def latency_fastapi(loop, sock):
    return await rows_programs.uvicorn_fastapi(loop, sock)
