"""1,000 answers at once through one Open WebUI and its agents pipe; prints JSON.

    python -m benchmarks.routing_streams [--streams 1000] [--words 60]

All of them are asked over the API, through one pool of four upstreams, and run at the
same time. Every word names the question it belongs to, so that a word in a wrong
answer is seen. Memory is what the server's process takes on (RSS) between the moment
when all answers have begun and the end of their last words.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.speed_meter import resident_megabytes
from benchmarks.speed_site import EMAIL, PASSWORD, MeasuredWebUI
from devkit.installer import Installer
from devkit.paths import ROOT
from devkit.process import Child, free_port, port_is_free
from devkit.webui import set_valves, sign_in

UPSTREAMS = 4
PAUSE = 0.5
MOST_GROWTH_MB = 30.0
MODEL = "agents.echo"


@contextmanager
def site(folder: Path, streams: int, words: int) -> Iterator[tuple[MeasuredWebUI, str]]:
    """An Open WebUI with the pipe and its upstream, and an admin's token."""
    port = free_port()
    arguments = (str(number) for number in (port, streams, words, PAUSE))
    command = [sys.executable, "-m", "benchmarks.routing_echo", *arguments]
    upstream = Child("The upstream", command, folder / "upstream.log", cwd=ROOT)
    env = {"WEBUI_ADMIN_EMAIL": EMAIL, "WEBUI_ADMIN_PASSWORD": PASSWORD}
    try:
        upstream.wait_until(lambda: not port_is_free(port), seconds=30)
        server = MeasuredWebUI(folder / "data", secret_key=PASSWORD, env=env)
        with server:
            admin = sign_in(server.url, EMAIL, PASSWORD)
            with Installer.connect(server.url, admin.token, ROOT) as installer:
                installer.install(["agents"])
            slots = {
                "url": f"http://127.0.0.1:{port}/v1",
                "concurrency": -(-streams // UPSTREAMS),
            }
            agent = {"id": "echo", "model": "echo", "upstreams": [slots] * UPSTREAMS}
            with admin.client(server.url) as client:
                set_valves(client, "agents", AGENTS=json.dumps([agent]))
                client.get("/api/models?refresh=true").raise_for_status()
            yield server, admin.token
    finally:
        upstream.stop()


async def read_all(url: str, token: str, streams: int, on_begun: Any) -> list[str]:
    """Ask everything at once; what each question was answered."""
    left = set(range(streams))

    async def read(session: aiohttp.ClientSession, number: int) -> str:
        message = {"role": "user", "content": f"q{number}"}
        body = {"model": MODEL, "stream": True, "messages": [message]}
        said = ""
        async with session.post(f"{url}/api/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                for choice in json.loads(line[6:]).get("choices") or ():
                    said += choice["delta"].get("content") or ""
                if said and number in left:
                    left.discard(number)
                    if not left:
                        on_begun()
        return said

    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        headers=headers,
    ) as session:
        return await asyncio.gather(*(read(session, n) for n in range(streams)))


def strangers(said: list[str], words: int) -> int:
    """How many answers hold anything but their own words, each once and in order."""
    expected = (
        "".join(f"q{number}:{word} " for word in range(words))
        for number in range(len(said))
    )
    return sum(answer != wanted for answer, wanted in zip(said, expected, strict=True))


def measure(folder: Path, streams: int, words: int) -> dict[str, Any]:
    """The figures of one run."""
    begun: list[float] = []
    with site(folder, streams, words) as (server, token):

        def note() -> None:
            begun.extend([resident_megabytes(server.pid), time.perf_counter()])

        started = time.perf_counter()
        said = asyncio.run(read_all(server.url, token, streams, note))
        ended = time.perf_counter()
        grown = resident_megabytes(server.pid) - begun[0]
    astray = strangers(said, words)
    return {
        "streams": streams,
        "words": streams * words,
        "answers with foreign or missing words": astray,
        "seconds until all had begun": round(begun[1] - started, 1),
        "seconds from then to the end": round(ended - begun[1], 1),
        "memory when all had begun, MB": round(begun[0], 1),
        "memory grown by the end, MB": round(grown, 1),
        "goal, MB": MOST_GROWTH_MB,
        "reached": astray == 0 and grown <= MOST_GROWTH_MB,
    }


def main(
    streams: Annotated[int, typer.Option(help="Answers at the same time.")] = 1_000,
    words: Annotated[int, typer.Option(help="Words of an answer, two a second.")] = 60,
) -> None:
    """Run all streams; exit code 1 when words went astray or memory grew."""
    # Two sockets an answer, in the server and here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), streams, words)
    print(json.dumps(figures, indent=2))
    if not figures["reached"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
