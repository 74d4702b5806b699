"""What a person gets who made a mistake: one line that names the thing and the remedy. Nothing is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from realm_reference.commands import keys, run, serve
from realm_reference.deploy.deployment import load
from realm_reference.deploy.local.replicas import probe
from realm_reference.tenants.keys import KeyFileError, load_keys
from realm_reference.tenants.policy import load_policies
from realm_reference.usage_command import usage_command

KEY = "realm_" + "k" * 32
BOM = b"\xef\xbb\xbf"


def refused(command: Any, *arguments: str) -> str:
    """The one line of a command that does not start."""
    result = CliRunner().invoke(command, list(arguments))
    lines = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ready-file", "{tmp}/none/ready"], "there is no folder"),
        (["--ready-file", "{tmp}"], "is no regular file"),
        (["--ready-file", "/dev/null"], "is no regular file"),
        (["--http", "--port", "{port}", "--http-port", "{port}"], "are both {port}; give each"),
        (["--port", "{port}", "--metrics-port", "{port}"], "are both {port}; give each"),
        (["--port", "0", "--host", "http://127.0.0.1"], "--host takes an address of this machine"),
        (["--port", "0", "--host", ""], "--host takes an address of this machine"),
        (["--port", "0", "--guest-timeout", "nan"], "nan is not a finite number"),
        (["--port", "0", "--request-timeout", "inf"], "inf is not a finite number"),
        (["--port", "0", "--otlp-endpoint", "collector:4318"], "begins with http:// or https://"),
        (["--port", "0", "--model", "{tmp}"], "is a folder; give a .gguf file"),
        (["--port", "0", "--pipelines", "{tmp}/none"], "name another with --pipelines"),
    ],
)
def test_serve_says_what_to_do(tmp_path: Path, arguments: list[str], says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    filled = [argument.format(tmp=tmp_path, port=port) for argument in arguments]
    assert says.format(port=port) in refused(serve, *filled)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("prot = 5", "unknown setting 'prot'; did you mean 'port'?"),
        ("max-tenents = 5", "did you mean 'max-tenants'?"),
        ("port = true", "'port' must be a single value, not a boolean"),
        ("port = [1]", "'port' must be a single value, not a list"),
        ("port = 80.5", "'port' must be a whole number, not 80.5"),
        ("http = 'yes'", "'http' must be true or false"),
    ],
)
def test_a_setting_of_the_wrong_kind(tmp_path: Path, content: str, says: str) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(content, "utf-8")
    assert says in refused(serve, "--config", str(config))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"key": "' + KEY.encode() + b'",}]', "property name enclosed in double quotes at line 1, column"),
        (b"", "Expecting value at line 1, column 1"),
        (b'[{"key": "\xe9"}]', "it is not UTF-8"),
        (b'[{"key": "' + KEY.encode() + b'", "tenant_id": "one", "tenant_id": "two"}]', "'tenant_id' twice"),
        (b'[{"' + KEY.encode() + b'": 1, "' + KEY.encode() + b'": 2}]', "twice in one object"),
        (
            b'[{"key": "short", "tenant_id": "one"}]',
            "entry 0 of the key file {path} needs a 'key'",
        ),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_key_file_with_a_mistake(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(KeyFileError) as caught:
        load_keys(path)
    assert says.format(path=path) in str(caught.value)
    assert str(path) in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_folder_or_a_device_is_no_key_file(tmp_path: Path) -> None:
    line = refused(keys, "generate", "--api-keys", str(tmp_path), "--tenant", "acme")
    assert "Is a directory" in line
    assert "make it with" not in line, "a remedy that cannot work"
    assert "is a device" in refused(keys, "generate", "--api-keys", "/dev/zero", "--tenant", "acme")
    assert Path("/dev/zero").is_char_device()


def test_a_key_that_nobody_saw_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "keys.json"
    monkeypatch.setattr("realm_reference.keys_commands.click.echo", full)
    line = refused_quietly("generate", "--api-keys", str(path), "--tenant", "acme")
    assert "No space left on device" in line
    assert load_keys(path) == ()


def refused_quietly(*arguments: str) -> str:
    """What `realm keys` raises, where it cannot print."""
    result = CliRunner().invoke(keys, list(arguments), standalone_mode=False)
    assert result.exception is not None
    return str(result.exception)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("keys.json", json.dumps([{"key": KEY, "tenant_id": "one"}]).encode(), load_keys),
        ("tenants.toml", b"[defaults]\r\nconcurrency = 2\r\n", load_policies),
        ("deploy.toml", b'name = "chat"\nmodel = "smollm2-135m"\n', load),
        ("deploy.yaml", b"name: chat\nmodel: smollm2-135m\n", load),
    ],
)
def test_a_byte_order_mark_is_no_mistake(
    tmp_path: Path, name: str, content: bytes, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).write_bytes(BOM + content)
    assert read(tmp_path / name)


def test_a_tenants_guest_that_is_none_is_named(tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "acme.wasm").write_bytes(b"hello")
    (tmp_path / "tenants.toml").write_text('[tenants.acme]\nguest = "acme.wasm"\n')
    line = refused(
        serve, "--port", "0", "--model", str(tiny_gguf), "--tenants", str(tmp_path / "tenants.toml")
    )
    assert "tenants.toml: the guest acme.wasm of acme: this is not a WebAssembly binary" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["caf\udce9"], "the prompt is not UTF-8"),
        (["hi", "--system", "caf\udce9"], "the system is not UTF-8"),
        (["", "--raw"], "the prompt has no tokens; give some text"),
        (["hi", "--temperature", "nan"], "not a finite number"),
    ],
)
def test_run_says_what_is_wrong_with_a_prompt(tiny_gguf: Path, arguments: list[str], says: str) -> None:
    assert says in refused(run, *arguments, "--model", str(tiny_gguf))


def test_a_guest_that_is_not_there_is_named_once(tiny_gguf: Path) -> None:
    line = refused(serve, "--port", "0", "--model", str(tiny_gguf), "--wasm", "v3")
    assert line.startswith("Error: guest module v3: cannot be read: No such file")
    assert "--wasm takes v1, v2 or a .wasm file" in line


async def test_a_frame_that_is_no_json_is_called_a_message(start_server: Callable[..., Any]) -> None:
    server = await start_server()
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/ws") as socket:
        await socket.receive_json(timeout=5)
        await socket.send_str("hello")
        answer = await socket.receive_json(timeout=5)
    assert answer["error"]["message"].startswith("The message is not valid JSON")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("REALM_SERVE_HTTPPORT", "did you mean REALM_SERVE_HTTP_PORT?"),
        ("REALM_SERVE_QQ", "unset it"),
    ],
)
def test_a_variable_that_is_no_flags(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALM_SERVE_SERVICE_HOST", "10.0.0.7")  # as Kubernetes does
    assert "is no regular file" in refused(serve, "--ready-file", "/dev/null")
    monkeypatch.setenv(name, "1")
    said = refused(serve, "--ready-file", "/dev/null")
    assert name in said
    assert says in said


def test_two_forms_of_one_output(tmp_path: Path) -> None:
    said = refused(usage_command, "--ledger", str(tmp_path / "none.db"), "--csv", "--json")
    assert "choose one" in said


def test_a_period_that_ends_before_it_begins(tmp_path: Path) -> None:
    period = ["--since", "2026-11-10", "--until", "2026-11-01"]
    assert "--since is not before --until" in refused(usage_command, "--ledger", str(tmp_path), *period)


def test_a_server_that_is_not_there_is_told_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert probe(f"http://127.0.0.1:{port}") == (0, {"reason": "no answer: Connection refused"})


WS = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "says"),
    [
        ("POST", "/chat/completions", JSON, b"{}", 404, "Did you mean /v1/chat/completions?"),
        ("POST", "/v1/v1/chat/completions", JSON, b"{}", 404, "Did you mean /v1/chat/completions?"),
        ("POST", "/v1/chat/completions/", JSON, b"{}", 404, "Did you mean /v1/chat/completions?"),
        ("POST", "/v1/tokenize", JSON, b"{}", 404, "Did you mean /tokenize?"),
        ("POST", "/v1/responses", JSON, b"{}", 404, "Unknown request URL: POST /v1/responses."),
        ("POST", "/v1/chat/completions", JSON, b" ", 400, "it is empty"),
        ("POST", "/v1/chat/completions", {}, b"{}", 415, "application/json, and is missing"),
        (
            "POST",
            "/v1/chat/completions",
            JSON,
            b'{"model": "tiny", "messages": [{"content": "x"}]}',
            400,
            "'messages[0].role' must be a string, and is null or missing.",
        ),
        (
            "POST",
            "/v1/chat/completions",
            JSON,
            b'{"model": "tiny", "mesages": []}',
            400,
            "Unrecognized request argument: 'mesages'. Did you mean 'messages'?",
        ),
        (
            "POST",
            "/v1/chat/completions",
            JSON,
            b'{"model": "tiny", "messages": [{"role": "user", "contents": "x"}]}',
            400,
            "Did you mean 'messages[0].content'?",
        ),
        ("GET", "/ws", WS, b"", 400, "Sec-WebSocket-Key must be 16 bytes"),
        (
            "GET",
            "/ws",
            {**WS, "Connection": "close"},
            b"",
            400,
            "Connection must hold Upgrade",
        ),
    ],
)
async def test_a_request_with_a_mistake(
    start_server: Callable[..., Any],
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    says: str,
) -> None:
    server = await start_server()
    unnamed = [] if "Content-Type" in headers else ["Content-Type"]
    async with (
        aiohttp.ClientSession(skip_auto_headers=unnamed) as client,
        client.request(method, server.url + path, headers=headers, data=body or None) as response,
    ):
        error = (await response.json())["error"]
        assert response.status == status
        assert says in error["message"]
