"""Result files as the conformance and load tools write them, to be changed by each test as it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from realm_harness.report import Run, Subject, conformance_of, load_of

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><path d="M0 20 L40 0" stroke="red"/></svg>'


def _case(
    case_id: str, verdict: str, level: str, chapter: str, title: str, message: str | None
) -> dict[str, Any]:
    return {
        "id": case_id,
        "title": title,
        "chapter": chapter,
        "clause": {
            "id": "S8",
            "sentence": "A stream ends with exactly one data: [DONE].",
            "source": "OpenAI API reference",
        },
        "level": level,
        "reason": "Clients wait for it before they trust the answer.",
        "verdict": verdict,
        "message": message,
        "ending": "closed by the server",
        "repro": "curl -N http://127.0.0.1:8000/v1/chat/completions -d '{\"stream\": true}'",
        "wire": [
            {
                "t_ms": 0.4,
                "dir": ">",
                "text": "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            },
            {"t_ms": 31.25, "dir": "<", "text": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"},
            {"t_ms": 44.5, "dir": "<", "text": 'data: {"choices":[]}\n\n'},
        ],
        "seconds": 0.045,
    }


@pytest.fixture
def conformance_json() -> dict[str, Any]:
    """A `realm-conformance/1` file with each verdict in it."""
    return {
        "schema": "realm-conformance/1",
        "tool": {"name": "realm-harness", "version": "0.1.0"},
        "target": {"url": "http://127.0.0.1:8000", "model": "smollm2-135m", "server_header": "realm/0.1"},
        "machine": {"platform": "Linux-6.1-x86_64", "cpus": 2, "python": "3.11.7"},
        "started": "2026-11-23T12:00:00+00:00",
        "seconds": 4.2,
        "summary": {"ok": 2, "failed": 1, "non_strict": 1, "unimplemented": 1, "informational": 1},
        "cases": [
            _case("CHAT-STREAM-001", "ok", "MUST", "streaming", "The stream is an event stream", None),
            _case(
                "CHAT-STREAM-008",
                "failed",
                "MUST",
                "streaming",
                "The stream ends with [DONE]",
                "no [DONE] was sent",
            ),
            _case("CHAT-ERROR-002", "ok", "MUST", "errors", "Malformed JSON is 400", None),
            _case(
                "CHAT-ERROR-005",
                "non_strict",
                "SHOULD",
                "errors",
                "The error names its param",
                "param is null",
            ),
            _case(
                "CHAT-PARAM-004",
                "unimplemented",
                "MUST",
                "parameters",
                "n choices",
                "400: n is not supported",
            ),
            _case("CHAT-PARAM-009", "informational", "INFO", "parameters", "Fingerprint", "fp_1"),
        ],
    }


@pytest.fixture
def load_json() -> dict[str, Any]:
    """A `realm-load/1` file of a healthy run."""
    latency = {
        "count": 40,
        "mean": 21.0,
        "p50": 20.04,
        "p90": 25.5,
        "p95": 30.0,
        "p99": 41.0,
        "max": 43.2,
        "hdr": "HIST",
    }
    return {
        "schema": "realm-load/1",
        "tool": {"name": "locust", "version": "2.44"},
        "target": {"url": "http://127.0.0.1:8000", "model": "smollm2-135m"},
        "settings": {"users": 4, "duration_s": 20, "seed": 7, "max_tokens": 32},
        "machine": {"platform": "Linux-6.1-x86_64", "cpus": 2},
        "versions": {"locust": "2.44", "hdrhistogram": "0.10"},
        "started": "2026-11-23T12:00:05+00:00",
        "seconds": 20.1,
        "figures": {
            "ttft_ms": {**latency, "p50": 112.4, "p99": 245.0},
            "itl_ms": latency,
            "e2e_ms": {**latency, "p50": 812.0, "p99": 1250.5},
            "tokens_per_second": 151.3,
            "tokens_per_second_per_user": 37.8,
            "requests": 40,
            "completed": 40,
            "failed": 0,
            "errors": {},
        },
        "definitions": {"ttft_ms": "From the last byte of the request to the first content delta."},
        "plots": {"ttft_over_time": SVG},
    }


@pytest.fixture
def make_run(conformance_json: dict[str, Any], load_json: dict[str, Any]) -> Callable[..., Run]:
    """Builds a Run from the two files; give `conformance=None` or `load=None` to leave one out."""

    def make(**changes: Any) -> Run:
        conformance = changes.pop("conformance", conformance_json)
        load = changes.pop("load", load_json)
        values: dict[str, Any] = {
            "subject": Subject("target", "http://127.0.0.1:8000", "smollm2-135m"),
            "started": "2026-11-23T12:00:00+00:00",
            "seconds": 25.0,
            "strict_should": False,
            "load_wanted": True,
            "machine": {"platform": "Linux-6.1-x86_64", "cpus": "2"},
            "conformance": conformance_of(conformance) if conformance else None,
            "load": load_of(load) if load else None,
            "raw": {"conformance": conformance, "load": load},
        }
        return Run(**{**values, **changes})

    return make
