"""`realm serve` and its WebSocket, as a process: on which port it is, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

COMMAND = [sys.executable, "-c", "from realm_reference.commands import serve; serve()"]
PIPELINE = "name: say\nsteps: [{name: only, params: {max_tokens: 3, temperature: 0}}]\n"


def ready(path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


async def first_words(url: str) -> tuple[Any, Any]:
    """The welcome, and what a call of the pipeline says."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        welcome = await socket.receive_json(timeout=20)
        await socket.send_json(
            {"id": "1", "function": "pipeline", "params": {"pipeline": "say", "input": "x"}}
        )
        return welcome, await socket.receive_json(timeout=20)


async def pipelines_of(url: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.receive_json(timeout=20)
        await socket.send_json({"id": "1", "function": "metadata"})
        reply = await socket.receive_json(timeout=20)
        return [card["name"] for card in reply["data"]["pipelines"]]


async def goodbye(url: str, process: subprocess.Popen[bytes]) -> Any:
    """The code with which a client is sent away when the server is told to end."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.receive_json(timeout=20)
        process.send_signal(signal.SIGTERM)
        return (await socket.receive(timeout=20)).data


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status


@pytest.mark.parametrize(
    ("flags", "own_port"),
    [
        (["--port", "0"], True),
        (["--http", "--port", "0"], True),
        (["--http", "--http-port", "0"], False),
    ],
)
def test_where_it_is(tiny_gguf: Path, tmp_path: Path, flags: list[str], own_port: bool) -> None:
    (tmp_path / "say.yaml").write_text(PIPELINE)
    path = tmp_path / "ready"
    arguments = [*flags, "--model", str(tiny_gguf), "--pipelines", str(tmp_path), "--ready-file", str(path)]
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.DEVNULL) as process:
        try:
            said = ready(path, process)
            urls = [said["websocket_url"]]
            if "--http" in flags:
                urls.append(said["url"].replace("http", "ws", 1) + "/ws")
            assert urls[0].endswith("/ws") is not own_port
            for url in urls:
                welcome, reply = asyncio.run(first_words(url))
                assert (welcome["status"], reply["status"]) == ("connected", "complete")
                assert reply["data"]["tokens_generated"] == 3
            has_http = asyncio.run(status_of(said["url"] + "/v1/models"))
            assert has_http == (200 if "--http" in flags else 404)
            assert asyncio.run(status_of(said["operations_url"] + "/ready")) == 200
            (tmp_path / "more.yaml").write_text(PIPELINE.replace("name: say", "name: more"))
            process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 20
            while asyncio.run(pipelines_of(urls[0])) != ["more", "say"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert asyncio.run(goodbye(urls[0], process)) == 1001
            assert process.wait(30) == 0
        finally:
            process.kill()
