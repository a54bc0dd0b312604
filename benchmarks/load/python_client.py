"""Stands in for the TLS load client where OpenSSL's headers are missing.

It speaks the C client's command line and answers, for echo over TCP only. It tops
out long before the C client does, so a result that used it says so.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", type=int, required=True)
    parser.add_argument("--tls", action="store_true")
    for name, default in (("connections", 1), ("size", 1024), ("depth", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("warmup", 0.2), ("seconds", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    return parser.parse_args()


def context():
    # The certificate is the harness's own: verifying it would measure nothing.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


async def converse(stream, message, depth, deadline, latencies):
    reader, writer = stream
    while time.perf_counter() < deadline:
        began = time.perf_counter()
        writer.write(message * depth)
        for _ in range(depth):
            if await reader.readexactly(len(message)) != message:
                raise SystemExit("the reply differs from the message")
            latencies.append(time.perf_counter() - began)


async def stretch(streams, options, seconds):
    began = time.perf_counter()
    latencies = []
    message = bytes(range(256)) * (options.size // 256 + 1)
    message = message[: options.size]
    talks = [
        converse(stream, message, options.depth, began + seconds, latencies)
        for stream in streams
    ]
    await asyncio.gather(*talks)
    return latencies, time.perf_counter() - began


def percentile(ordered, share):
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e6


def report(messages, seconds, cpu, latencies):
    """A stretch, and the latencies of all so far."""
    ordered = sorted(latencies) or [0.0]
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    spread = {name: percentile(ordered, share) for name, share in shares.items()}
    spread["mean"] = sum(ordered) / len(ordered) * 1e6
    return {
        "messages": messages,
        "seconds": seconds,
        "lost": 0,
        "client_cpu_seconds": cpu,
        "latency_us": spread,
    }


async def main(options):
    secure = context() if options.tls else None
    streams = [
        await asyncio.open_connection("127.0.0.1", options.tcp, ssl=secure)
        for _ in range(options.connections)
    ]
    await stretch(streams, options, options.warmup)
    print(json.dumps({"phase": "warm"}), flush=True)
    every = []
    while sys.stdin.readline():
        cpu = time.process_time()
        latencies, seconds = await stretch(streams, options, options.seconds)
        every += latencies
        cpu = time.process_time() - cpu
        print(json.dumps(report(len(latencies), seconds, cpu, every)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(parse()))
