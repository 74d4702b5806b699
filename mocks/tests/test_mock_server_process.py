"""`python -m realm_mocks.server` as a process: prints its URL, answers, keeps its records over HTTP."""

import json
import subprocess
import sys
import urllib.request


def test_process_prints_its_url_and_serves_records() -> None:
    command = [sys.executable, "-m", "realm_mocks.server", "--itl-ms", "1", "--tokens", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            body = json.dumps(
                {"model": "scripted-1", "messages": [{"role": "user", "content": "hi"}]}
            ).encode()
            request = urllib.request.Request(f"{url}/v1/chat/completions", body)
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = json.load(response)
            with urllib.request.urlopen(f"{url}/mock/records", timeout=10) as response:
                (record,) = json.load(response)
        finally:
            process.terminate()
    assert answer["usage"]["completion_tokens"] == 4
    assert record["id"] == answer["id"]
    assert len(record["due_ns"]) == 4


def test_unknown_defect_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "realm_mocks.server", "--defect", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
