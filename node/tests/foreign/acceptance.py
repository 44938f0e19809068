"""What Herenow promises, measured from outside: by clients in Python and in Node.js, each a process of its own.

Prints a table and exits with 1 when a bound is missed. `cargo xtask acceptance` runs all of it, `cargo test` the short
form.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

# Nothing is left behind in the source tree.
sys.dont_write_bytecode = True
import sites  # noqa: E402

HERE = Path(__file__).parent
PROGRAMS = {"Python": [sys.executable, str(HERE / "client.py")], "Node": ["node", str(HERE / "client.mjs")]}
PAIRS = [("Python", "Node"), ("Node", "Python")]
# How long is waited for what has no bound of its own, in seconds: a fresh cluster has partitions to claim.
PATIENCE = 60
# How far apart changes are made, in seconds: a session may send 20 frames a second.
PACE = 0.06
# How much earlier than its time a session may be found silent: its last byte is a little older than the signal.
EARLY = 0.1
LATENCY_BOUND = 0.050

numbers = itertools.count(1)


class Client:
    """A person's program, and all that it says it saw."""

    def __init__(self, child):
        self.child = child
        self.events = []
        self.news = asyncio.Condition()
        self.reading = asyncio.create_task(self.read())

    @classmethod
    async def start(cls, program, url, token, device, *watched):
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        child = await asyncio.create_subprocess_exec(*PROGRAMS[program], url, token, device, *watched, **pipes)
        client = cls(child)
        await client.until(lambda event: event.get("frame", {}).get("type") == "welcome")
        return client

    async def read(self):
        async for line in self.child.stdout:
            async with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()

    async def until(self, wanted, since=0, patience=PATIENCE):
        """The first event from number `since` on that is as wanted."""

        async def look():
            at = since
            async with self.news:
                while True:
                    for event in self.events[at:]:
                        if wanted(event):
                            return event
                    at = len(self.events)
                    await self.news.wait()

        return await asyncio.wait_for(look(), patience)

    async def sees(self, user, status, since=0, patience=PATIENCE):
        return await self.until(
            lambda event: any(one["status"] == status for one in named(event, user)), since, patience
        )

    async def send(self, frame):
        """Sends a frame and returns when that was, in nanoseconds."""
        since = len(self.events)
        self.child.stdin.write(json.dumps(frame).encode() + b"\n")
        return (await self.until(lambda event: "sent" in event, since))["at"]

    def signal(self, number):
        self.child.send_signal(number)
        return time.monotonic_ns()

    async def end(self):
        if self.child.returncode is None:
            self.child.kill()
        await self.child.wait()
        await self.reading


def named(event, user):
    return [one for one in event.get("frame", {}).get("users", []) if one["userId"] == user]


class Scene:
    """One watched person, online, and one watcher who sees it."""

    def __init__(self, site, watched, watcher):
        self.site, self.programs = site, (watched, watcher)
        self.user = f"person {next(numbers)}"
        self.clients = contextlib.AsyncExitStack()

    async def __aenter__(self):
        self.watched = await self.join(self.site.watched)
        self.watcher = await self.client(self.programs[1], self.site.watchers, f"watcher {next(numbers)}", self.user)
        await self.watcher.sees(self.user, "online")
        return self

    async def __aexit__(self, *_):
        await self.clients.aclose()

    async def join(self, url):
        """The watched person connects, always with the same device."""
        return await self.client(self.programs[0], url, self.user)

    async def client(self, program, url, user, *watched):
        token = await asyncio.to_thread(self.site.token, user)
        client = await Client.start(program, url, token, "d1", *watched)
        self.clients.push_async_callback(client.end)
        return client

    async def gone(self, began, since, bound):
        """Seconds until the watcher saw it offline."""
        event = await self.watcher.sees(self.user, "offline", since, patience=2 * bound + 5)
        return (event["at"] - began) / 1e9


class Judge:
    def __init__(self, slack, judged):
        self.slack, self.judged = slack, judged
        self.rows = []

    def row(self, scene, what, bound, measured, ok, **more):
        site, (watched, watcher) = scene.site, scene.programs
        self.rows.append(
            {"where": site.where, "timers": site.timers, "watched": watched, "watcher": watcher, "what": what}
            | {"bound": bound, "measured": measured, "ok": ok}
            | more
        )

    def within(self, scene, what, least, most, seconds):
        bound = f"{least:g} to {most:g} s" if least else f"{most:g} s"
        ok = least <= seconds <= most
        self.row(scene, what, bound, f"{seconds:.3f} s", ok, seconds=seconds)

    async def latency(self, site, pair, changes):
        async with Scene(site, *pair) as scene:
            taken = []
            for number in range(changes):
                activity, status = [("idle", "idle"), ("active", "online")][number % 2]
                since = len(scene.watcher.events)
                sent = await scene.watched.send({"type": "heartbeat", "activity": activity})
                seen = await scene.watcher.sees(scene.user, status, since)
                taken.append((seen["at"] - sent) / 1e6)
                await asyncio.sleep(PACE)
            figures = {
                "p50": statistics.median(taken),
                "p99": statistics.quantiles(taken, n=100, method="inclusive")[98],
                "max": max(taken),
            }
            words = ", ".join(f"{name} {value:.2f}" for name, value in figures.items()) + " ms"
            bound = f"{self.judged} {LATENCY_BOUND * 1000:g} ms"
            ok = figures[self.judged] < LATENCY_BOUND * 1000
            self.row(scene, f"{changes} changes are seen", bound, words, ok, milliseconds=figures)

    async def killed(self, site, pair):
        """The system closes the socket of a process that is gone; the grace period begins."""
        async with Scene(site, *pair) as scene:
            since, most = len(scene.watcher.events), site.grace + self.slack
            taken = await scene.gone(scene.watched.signal(signal.SIGKILL), since, most)
            self.within(scene, "kill -9, then offline", site.grace, most, taken)

    async def stopped(self, site, pair):
        """A process that stands still keeps its socket and is silent, from a heartbeat on."""
        async with Scene(site, *pair) as scene:
            await scene.watched.send({"type": "heartbeat", "id": 99})
            await scene.watched.until(lambda event: event.get("frame") == {"type": "ack", "id": 99})
            since, most = len(scene.watcher.events), site.heartbeat_timeout + self.slack
            taken = await scene.gone(scene.watched.signal(signal.SIGSTOP), since, most)
            self.within(scene, "SIGSTOP, then offline", site.heartbeat_timeout - EARLY, most, taken)

    async def returns(self, site, pair):
        """Who comes back within the grace period, to any gateway, was never away, for anybody."""
        async with Scene(site, *pair) as scene:
            # What was told while the two connected is not meant.
            await asyncio.sleep(0.5)
            since = len(scene.watcher.events)
            scene.watched.signal(signal.SIGKILL)
            await asyncio.sleep(site.grace / 3)
            scene.watched = await scene.join(site.watchers)
            await asyncio.sleep(site.grace + self.slack)
            told = [one for event in scene.watcher.events[since:] for one in named(event, scene.user)]
            what = "kill -9, back within the grace"
            self.row(scene, what, "nothing is seen", f"{len(told)} seen", not told, told=told)

    async def leaves(self, site, pair):
        """An orderly leave has no grace."""
        async with Scene(site, *pair) as scene:
            since = len(scene.watcher.events)
            taken = await scene.gone(await scene.watched.send({"type": "bye"}), since, self.slack)
            self.within(scene, "bye, then offline", 0, self.slack, taken)

    def table(self):
        names = ["where", "timers", "watched", "watcher", "what", "bound", "measured"]
        lines = [names, *([row[name] for name in names] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        ends = ["ok", *("yes" if row["ok"] else "NO" for row in self.rows)]
        for line, end in zip(lines, ends, strict=True):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), end, sep="  ")


async def run(arguments):
    judge = Judge(arguments.slack, "p50" if arguments.short else "max")
    async with contextlib.AsyncExitStack() as stack:
        starts = [sites.dev(arguments.herenow, 10)]
        if not arguments.short:
            cluster = lambda scale: sites.cluster(arguments.herenow, arguments.nats_server, scale)
            starts = [sites.dev(arguments.herenow, 1), cluster(1), *starts, cluster(10)]
        running = [await stack.enter_async_context(start) for start in starts]
        # One after the other: they are to be measured, not each other.
        for site, pair in itertools.product(running, PAIRS):
            await judge.latency(site, pair, arguments.changes)
        scenes = [judge.killed, judge.stopped, judge.returns, judge.leaves]
        async with asyncio.TaskGroup() as group:
            for site, scene, pair in itertools.product(running, scenes, PAIRS):
                group.create_task(scene(site, pair))
    order = [(site.where, site.timers) for site in running]
    judge.rows.sort(key=lambda row: (order.index((row["where"], row["timers"])), row["what"], row["watched"]))
    judge.table()
    good = all(row["ok"] for row in judge.rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"ok": good, "rows": judge.rows}, indent=2) + "\n")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--herenow", required=True, help="the program")
    parser.add_argument("--nats-server", help="the program; not needed for the short form")
    parser.add_argument("--short", action="store_true", help="one process, timers ten times shorter")
    parser.add_argument("--changes", type=int, default=50, help="how many to measure")
    parser.add_argument("--slack", type=float, default=1, help="seconds that a bound may be passed by")
    parser.add_argument("--json", help="a file for the result")
    arguments = parser.parse_args()
    # Ends what was started, as an interrupt does.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    sys.exit(asyncio.run(run(arguments)))


main()
