"""Herenow as its users start it: `herenow dev`, or a cluster of `herenow serve` over NATS."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import tempfile
import time
import urllib.request

START_LIMIT = 30
SECRET = "a secret of the acceptance, 32 bytes long"
ISSUER, AUDIENCE = "acceptance", "herenow"


class Site:
    """A running service: where the watched and where the watchers connect, its timers in seconds, and its tokens."""

    def __init__(self, where, watched, watchers, scale, token):
        self.where = where
        self.watched, self.watchers = watched, watchers
        self.timers = "default" if scale == 1 else f"1/{scale}"
        self.grace, self.heartbeat_timeout = 10 / scale, 30 / scale
        self.token = token


@contextlib.asynccontextmanager
async def process(*command, **options):
    """A process that ends with the block."""
    child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def dev(herenow, scale):
    """Everything in one process."""
    flags = ["--port", "0", "--scale-times", str(scale)]
    async with process(herenow, "dev", *flags, stdout=asyncio.subprocess.PIPE) as child:
        line = await asyncio.wait_for(child.stdout.readline(), START_LIMIT)
        found = re.search(rb"Herenow is ready: http://([0-9.:]+)/", line)
        assert found, f"herenow dev says {line!r}"
        address = found[1].decode()

        def token(user):
            request = urllib.request.Request(
                f"http://{address}/demo/token",
                json.dumps({"name": user}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["token"]

        url = f"ws://{address}"
        yield Site("herenow dev", url, url, scale, token)


@contextlib.asynccontextmanager
async def cluster(herenow, nats_server, scale):
    """Two gateways and two coordinators, each a process: the watched are on one gateway, the watchers on the other."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="herenow-acceptance-"))
        port = free_port()
        nats = [nats_server, "-js", "-sd", directory, "-a", "127.0.0.1", "-p", str(port), "-l", f"{directory}/nats.log"]
        await stack.enter_async_context(process(*nats))
        await until_open(port)
        environment = {**os.environ, **settings(f"nats://127.0.0.1:{port}", scale)}
        admins, gateways = [], []
        for role, number in [("coordinator", 1), ("coordinator", 2), ("gateway", 1), ("gateway", 2)]:
            clients, admin = free_port(), free_port()
            command = [herenow, "serve", "--roles", role, "--name", f"{role}-{number}"]
            addresses = ["--listen", f"127.0.0.1:{clients}", "--admin-listen", f"127.0.0.1:{admin}"]
            await stack.enter_async_context(process(*command, *addresses, env=environment))
            admins.append(admin)
            if role == "gateway":
                gateways.append(f"ws://127.0.0.1:{clients}")
        for admin in admins:
            await until_ready(admin)
        yield Site("2 gateways, NATS", gateways[0], gateways[1], scale, sign)


def settings(nats, scale):
    variables = {
        "CLUSTER__BUS": "nats",
        "CLUSTER__SECRET": SECRET,
        "NATS__SERVERS": nats,
        "GATEWAY__AUTH__ALGORITHM": "HS256",
        "GATEWAY__AUTH__KEYS__0__SECRET": SECRET,
        "GATEWAY__AUTH__ISSUER": ISSUER,
        "GATEWAY__AUTH__AUDIENCE": AUDIENCE,
        "GATEWAY__SHARDS": "1",
        "LOG__LEVEL": "error",
    }
    if scale != 1:
        variables |= {
            "GATEWAY__CORE__HEARTBEAT_INTERVAL": f"{20_000 // scale}ms",
            "GATEWAY__CORE__HEARTBEAT_TIMEOUT": f"{30_000 // scale}ms",
            "COORDINATOR__GRACE_PERIOD": f"{10_000 // scale}ms",
            "COORDINATOR__GRACE_MAX": f"{60_000 // scale}ms",
        }
    return {f"HERENOW__{key}": value for key, value in variables.items()}


def sign(user):
    """A token by hand: HS256 is a few lines."""
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    now = int(time.time())
    claims = {"sub": user, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600, "watch": "*"}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(map(encode, parts))
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + encode(signature)).decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until_open(port):
    for _ in range(START_LIMIT * 20):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            return writer.close()
        except OSError:
            await asyncio.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


async def until_ready(admin):
    def ready():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    for _ in range(START_LIMIT * 20):
        if await asyncio.to_thread(ready):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("a process of the cluster is not ready")
