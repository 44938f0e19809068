"""One person with the `websockets` package of Python: a client that shares no code with Herenow.

    client.py URL TOKEN DEVICE [USER ...]

Connects to URL, watches the users, and sends heartbeats. Writes a line of JSON for each frame that comes, and for each
it sends because a line on its standard input says so. `at` is CLOCK_MONOTONIC in nanoseconds, which all processes of a
machine share.
"""

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect


def say(at, kind, frame):
    print(json.dumps({"at": at, kind: frame}), flush=True)


async def beat(socket, seconds):
    while True:
        await asyncio.sleep(seconds)
        await socket.send('{"type":"heartbeat"}')


async def obey(socket):
    """Sends what standard input says; its end is the end."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        at = time.monotonic_ns()
        await socket.send(line.decode().strip())
        say(at, "sent", json.loads(line))
    await socket.close()


async def main(url, token, device, *users):
    headers = {"Authorization": f"Bearer {token}"}
    protocols = ["herenow.v1.json"]
    address = f"{url}/v1/connect?device={device}&activity=active"
    # Signs of life are frames of the protocol; the library's own pings would be some too.
    async with connect(address, additional_headers=headers, subprotocols=protocols, ping_interval=None) as socket:
        tasks = []
        async for text in socket:
            at, frame = time.monotonic_ns(), json.loads(text)
            say(at, "frame", frame)
            if frame["type"] == "welcome":
                tasks.append(asyncio.create_task(beat(socket, frame["heartbeatIntervalMs"] / 1000)))
                tasks.append(asyncio.create_task(obey(socket)))
                if users:
                    await socket.send(json.dumps({"type": "watch", "id": 1, "users": users}))
        for task in tasks:
            task.cancel()


asyncio.run(main(*sys.argv[1:]))
