"""Structured logs: one JSON object a line, or one readable line, with the fields that a record carries."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(log_record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(log_record).items() if name not in _STANDARD}


def _time(log_record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(log_record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds")


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "message", ...fields, "exception"?}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """``time LEVEL message name=value ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """One readable line, with a traceback below it if there is one."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(log_format: str, level: str = "info") -> None:
    """Send all logs of `level` and above to stderr in the given format (``json`` or ``text``)."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
