"""Log files of replicas: chosen by field, in the order of time, followed over a rename."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from realm_reference.commands import logs
from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.logfiles import LogFile, merged
from realm_reference.deploy.logs import Filter, since


def line(second: int, **fields: object) -> str:
    time = f"2030-01-01T00:00:{second:02}.000+00:00"
    return json.dumps({"time": time, "level": "info", "message": "request", **fields}) + "\n"


def messages(entries: object) -> list[str]:
    return [entry.fields["message"] for entry in entries]  # type: ignore[attr-defined]


def test_renamed_parts_come_first_and_replicas_are_merged(tmp_path: Path) -> None:
    first, second = tmp_path / "replica-01.log", tmp_path / "replica-02.log"
    first.with_name("replica-01.log.10").write_text(line(1, message="a"), "utf-8")
    first.with_name("replica-01.log.2").write_text(line(3, message="c"), "utf-8")
    first.write_text(line(5, message="e"), "utf-8")
    second.write_text(line(2, message="b") + line(4, message="d"), "utf-8")
    files = [LogFile(first), LogFile(second), LogFile(tmp_path / "replica-03.log")]
    assert messages(merged(files)) == ["a", "b", "c", "d", "e"]
    for file in files:
        file.close()


def test_a_traceback_keeps_the_time_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "replica-01.log"
    path.write_text(line(1) + "Traceback\n[1]\n" + line(2), "utf-8")
    file = LogFile(path)
    entries = list(file.past())
    file.close()
    assert [entry.time[17:19] for entry in entries] == ["01", "01", "01", "02"]
    assert entries[1].text().endswith("Traceback")


def test_following_loses_nothing_when_the_file_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "replica-01.log"
    file = LogFile(path)
    assert messages(file.more()) == []
    whole = line(1, message="a")
    path.write_text(whole[:20], "utf-8")
    assert messages(file.more()) == [], "half a line is no line"
    with path.open("a", encoding="utf-8") as log:
        log.write(whole[20:])
    assert messages(file.more()) == ["a"]
    with path.open("a", encoding="utf-8") as log:
        log.write(line(2, message="b"))
    path.rename(path.with_name("replica-01.log.1"))
    assert messages(file.more()) == ["b"]
    path.write_text(line(3, message="c"), "utf-8")
    assert messages(file.more()) == ["c"]
    file.close()


def test_since_is_a_span_or_a_time() -> None:
    def now() -> datetime:
        return datetime(2030, 1, 2, 12, tzinfo=UTC)

    assert since("90s", now) == "2030-01-02T11:58:30.000+00:00"
    assert since("1d", now) == "2030-01-01T12:00:00.000+00:00"
    assert since("2030-01-01T02:00+02:00", now) == "2030-01-01T00:00:00.000+00:00"
    for wrong in ("", "5", "10x", "yesterday", "-5m"):
        with pytest.raises(DeployError, match="--since"):
            since(wrong, now)


def test_the_filter() -> None:
    lines = [line(1, tenant="alice", request_id="a"), line(2, tenant="bob", level="error"), "print\n"]
    shown = CliRunner().invoke(logs, ["-", "--tenant", "alice"], input="".join(lines))
    assert shown.output == "2030-01-01T00:00:01.000+00:00 - INFO request tenant=alice request_id=a\n"
    assert len(CliRunner().invoke(logs, ["-"], input="".join(lines)).output.splitlines()) == 3
    errors = CliRunner().invoke(logs, ["-", "--level", "warning", "--json"], input="".join(lines[:2]))
    assert [json.loads(error)["tenant"] for error in errors.output.splitlines()] == ["bob"]
    later = CliRunner().invoke(logs, ["-", "--since", "2030-01-01T00:00:02+00:00"], input="".join(lines[:2]))
    assert "tenant=bob" in later.output
    assert "alice" not in later.output


def test_replicas_are_chosen_by_number() -> None:
    from realm_reference.deploy.logline import parse

    entry = parse(line(1), "02", "")
    assert Filter(replicas=("02",)).wants(entry)
    assert not Filter(replicas=("01",)).wants(entry)
