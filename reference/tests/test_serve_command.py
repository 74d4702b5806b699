"""`realm serve` and `realm run` as processes: flags, config, ready file, signals, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_reference.commands import run, serve

COMMAND = [sys.executable, "-c", "from realm_reference.commands import serve; serve()"]
# Runs a command and says last how much memory it had, KiB. By way of a small process: a child's peak begins
# with that of the process which started it.
MEASURE = """
import os, subprocess, sys
_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def outcome(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and the one line on stderr of a serve that does not get to serve."""
    result = CliRunner().invoke(serve, list(arguments), env=environment)
    lines = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.output
    return result.exit_code, lines[0]


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    return tmp_path / "ready.json"


@pytest.fixture
def process(tiny_gguf: Path, ready_file: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = ["--http", "--http-port", "0", "--model", str(tiny_gguf), "--ready-file", str(ready_file)]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--log-format", "json"], stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def wait_for_url(ready_file: Path, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + 60
    while not ready_file.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ready = json.loads(ready_file.read_text("utf-8"))
    assert ready["pid"] == process.pid
    return str(ready["url"])


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def test_serve_answers_and_ends_on_sigterm(process: subprocess.Popen[str], ready_file: Path) -> None:
    url = wait_for_url(ready_file, process)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    assert post(url, body)["usage"]["completion_tokens"] <= 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert not ready_file.exists()
    assert process.stderr is not None
    logged = [json.loads(line) for line in process.stderr.read().splitlines() if line.startswith("{")]
    messages = [entry["message"] for entry in logged]
    assert messages == ["computing: NumPy, float32", "loading", "serving", "request", "draining", "stopped"]
    assert logged[3]["status"] == 200


def test_sigterm_lets_a_running_request_finish(process: subprocess.Popen[str], ready_file: Path) -> None:
    url = wait_for_url(ready_file, process)

    async def ask_and_stop() -> bytes:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(
            {
                "model": "tiny",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": True,
                "max_tokens": 300,
            }
        ).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        start = await reader.readuntil(b'"content":"')
        process.send_signal(signal.SIGTERM)
        rest = await reader.read()
        writer.close()
        return start + rest

    assert b"data: [DONE]" in asyncio.run(ask_and_stop())
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_run_prints_one_generation(tiny_gguf: Path, name: str) -> None:
    arguments = ["hello", "--model", str(tiny_gguf), "--wasm", name, "--max-tokens", "5"]
    first, second = (CliRunner().invoke(run, arguments) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.output.strip()
    assert first.output == second.output


def test_run_refuses_a_prompt_beyond_the_context(tiny_gguf: Path) -> None:
    result = CliRunner().invoke(run, ["a" * 900, "--model", str(tiny_gguf)])
    assert result.exit_code == 1
    assert "the context holds 640" in result.output


def test_flags_for_http_want_http() -> None:
    for flag in ("--http-port", "--fd"):
        code, line = outcome(flag, "9")
        assert code == 2
        assert "give --http" in line


def test_pipelines_are_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("name: p\nsteps: [{name: x, adapter: 3}]")
    code, line = outcome("--port", "0", "--model", "no-such-model", "--pipelines", str(tmp_path))
    assert code == 2
    assert "p.yaml:2:28: 'adapter' must be a string that is not empty" in line


def test_a_missing_model(tmp_path: Path) -> None:
    code, line = outcome("--http", "--http-port", "0", "--model", str(tmp_path / "none.gguf"))
    assert code == 2
    assert "none.gguf" in line


def test_a_foreign_model_file(tmp_path: Path) -> None:
    (tmp_path / "foreign.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    code, line = outcome("--http", "--http-port", "0", "--model", str(tmp_path / "foreign.gguf"))
    assert code == 2
    assert "foreign.gguf" in line


def test_a_bad_guest(tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "guest.wasm").write_bytes(b"not wasm")
    code, line = outcome(
        "--http", "--http-port", "0", "--model", str(tiny_gguf), "--wasm", str(tmp_path / "guest.wasm")
    )
    assert code == 2
    assert "guest.wasm" in line


def test_a_guest_of_300_megabytes_is_not_read(tmp_path: Path, tiny_gguf: Path) -> None:
    guest = tmp_path / "guest.wasm"
    with guest.open("wb") as file:
        file.write(b"\0asm\1\0\0\0")
        file.truncate(300 << 20)
    arguments = ["--http", "--http-port", "0", "--model", str(tiny_gguf), "--wasm", str(guest)]
    command = [sys.executable, "-c", MEASURE, *COMMAND, *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    *_, last, peak = done.stderr.splitlines()
    assert done.returncode == 2
    assert last.startswith("Error: guest module")
    assert "more than the limit" in last
    assert int(peak) < 250 << 10


def test_a_port_in_use(tiny_gguf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, line = outcome("--http", "--http-port", port, "--model", str(tiny_gguf))
    assert code == 2
    assert port in line


def test_bad_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}", "utf-8")
    code, line = outcome("--http", "--auth", "--api-keys", str(tmp_path / "keys.json"))
    assert code == 2
    assert "key file" in line
    assert outcome("--http", "--auth")[0] == 2
    assert outcome("--http", "--api-keys", str(tmp_path / "keys.json"))[0] == 2


def test_gpu_is_refused_where_it_is_not_there() -> None:
    code, line = outcome("--http", "--gpu")
    assert code == 2
    assert "CuPy" in line


def test_a_config_file_and_the_environment_set_flags(tmp_path: Path, tiny_gguf: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(f'http = true\nhttp-port = 0\nmodel = "{tiny_gguf}"\nwasm = "nowhere.wasm"\n', "utf-8")
    code, line = outcome("--config", str(config))
    assert code == 2
    assert "nowhere.wasm" in line, "the file is read"
    _, line = outcome("--config", str(config), REALM_SERVE_WASM="elsewhere.wasm")
    assert "elsewhere.wasm" in line, "the environment wins over the file"
    _, line = outcome("--config", str(config), "--wasm", "here.wasm", REALM_SERVE_WASM="elsewhere.wasm")
    assert "here.wasm" in line, "a flag wins over both"


@pytest.mark.parametrize(
    "content", ["colour = 1", "http = [1]", "http = ", "config = 'x'", "[http]\nport = 1"]
)
def test_a_bad_config_file(tmp_path: Path, content: str) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(content, "utf-8")
    assert outcome("--config", str(config))[0] == 2
    assert outcome("--config", str(tmp_path / "none.toml"))[0] == 2


def test_an_unknown_flag() -> None:
    assert outcome("--http", "--colour")[0] == 2


def test_no_variable_of_this_shell_leaks_into_the_tests() -> None:
    assert not [name for name in os.environ if name.startswith("REALM_SERVE_")]


def test_the_flag_for_threads_is_set_before_the_matrix_library_is_loaded() -> None:
    """OpenBLAS starts its threads when NumPy is imported, so command modules may not import it."""
    script = (
        "import sys, realm_reference.commands\n"
        "assert 'numpy' not in sys.modules\n"
        "from realm_reference.command_options import limit_threads\n"
        "limit_threads({count})\n"
        "import numpy, os\n"
        "numpy.ones((600, 600)) @ numpy.ones((600, 600))\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", script.format(count=n)], capture_output=True, check=True
            ).stdout
        )
        for n in (1, 2)
    ]
    assert counts == [1, min(2, len(os.sched_getaffinity(0)))]
