"""Log lines: one a record, with its fields."""

from __future__ import annotations

import json
import logging
import sys

from realm_reference.server.telemetry.logs import JsonFormatter, TextFormatter


def record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "a %s", "args": ("b",), **fields})


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record(request_id="r\n1", status=200))
    assert "\n" not in line
    parsed = json.loads(line)
    assert (parsed["message"], parsed["request_id"], parsed["status"]) == ("a b", "r\n1", 200)
    assert set(parsed) == {"time", "level", "logger", "message", "request_id", "status"}


def test_text_is_readable() -> None:
    assert TextFormatter().format(record(status=200)).endswith("INFO a b status=200")


def test_a_traceback_is_kept() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        failed = record(exc_info=sys.exc_info())
    assert "ValueError: no" in json.loads(JsonFormatter().format(failed))["exception"]
    assert "ValueError: no" in TextFormatter().format(failed)
