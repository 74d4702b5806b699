"""The ledger: rows once, on disk before they are told, from several processes; and what it adds up to."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_reference.commands import usage
from realm_reference.tenants.ledger import Ledger, LedgerError, Row, connect

NOON = 1_764_072_000.0  # 2025-11-25 12:00 UTC
ROW = Row("id-0", "req-0", NOON, "alice", "realm_a", "chat", "tiny", 10, 5, "finished", "stop", 0.5, 1.0, 2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "realm.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM requests ORDER BY id").fetchall()


def test_a_row_is_there_when_it_is_said_to_be(ledger: Ledger, path: Path) -> None:
    for number in range(20):
        ledger.write(replace(ROW, id=f"id-{number:02}")).result(10)
        assert len(rows(path)) == number + 1
    assert rows(path)[0][1:] == (*vars(ROW).values(),)[1:]


def test_an_id_counts_once(ledger: Ledger, path: Path) -> None:
    wait([ledger.write(ROW), ledger.write(replace(ROW, completion_tokens=99)), ledger.write(ROW)])
    assert [row[0] for row in rows(path)] == ["id-0"]
    assert rows(path)[0][8] == 5


def test_close_writes_what_is_queued(path: Path) -> None:
    ledger = Ledger(path)
    for number in range(500):
        ledger.write(replace(ROW, id=f"id-{number}"))
    ledger.close()
    assert len(rows(path)) == 500


def test_several_servers_share_one_file(path: Path) -> None:
    ledgers: list[Ledger] = []
    opening = [threading.Thread(target=lambda: ledgers.append(Ledger(path))) for _ in range(4)]
    for thread in opening:
        thread.start()
    for thread in opening:
        thread.join()
    assert len(ledgers) == 4
    written = [
        ledger.write(replace(ROW, id=f"{server}-{number}"))
        for number in range(50)
        for server, ledger in enumerate(ledgers)
    ]
    assert not wait(written, 30).not_done
    for one in written:
        one.result()
    for ledger in ledgers:
        ledger.close()
    assert len(rows(path)) == 200


def test_what_cannot_be_written_is_said_and_the_next_may_be(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE requests RENAME TO gone")
        other.commit()
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.write(ROW).result(10)
        assert vars(ledger)["failing"]
        other.execute("ALTER TABLE gone RENAME TO requests")
        other.commit()
    ledger.write(ROW).result(10)
    assert not vars(ledger)["failing"]
    assert len(rows(path)) == 1


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and long enough to be looked at" * 20)
    with pytest.raises(LedgerError, match="choose another file"):
        Ledger(text)
    with pytest.raises(LedgerError, match="choose another file"):
        Ledger(tmp_path)
    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match="version 1"):
        Ledger(newer)
    with pytest.raises(LedgerError, match="there is no ledger"):
        connect(tmp_path / "none.db")


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("table", ["notes", "requests"])
def test_another_programs_database_is_left_alone(tmp_path: Path, table: str, version: int) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE {table} (id TEXT); PRAGMA user_version = {version};")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="choose another file"):
        Ledger(path)
    assert path.read_bytes() == before


@pytest.fixture
def filled(ledger: Ledger, path: Path) -> Path:
    bob = replace(ROW, tenant="bob", key_id="realm_b", status="failed", finish="timeout", ttft_seconds=None)
    day = 86400.0
    wait(
        [
            ledger.write(ROW),
            ledger.write(replace(ROW, id="id-1", key_id="realm_a2", endpoint="completions")),
            ledger.write(replace(ROW, id="id-2", started=NOON + day, status="cancelled", finish=None)),
            ledger.write(replace(bob, id="id-3", started=NOON + 2 * day, model="large")),
        ]
    )
    return path


def summed(path: Path, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(usage, ["--ledger", str(path), "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_usage_by_tenant(filled: Path) -> None:
    alice, bob = summed(filled)
    assert alice == {
        "tenant": "alice", "requests": 3, "finished": 2, "cancelled": 1, "failed": 0,
        "prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45,
        "mean_queue_seconds": 0.5, "mean_ttft_seconds": 1.0, "mean_total_seconds": 2.0,
    }  # fmt: skip
    assert (bob["tenant"], bob["failed"], bob["mean_ttft_seconds"]) == ("bob", 1, None)


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("key", {("alice", "realm_a"): 2, ("alice", "realm_a2"): 1, ("bob", "realm_b"): 1}),
        ("model", {("large",): 1, ("tiny",): 3}),
        ("endpoint", {("chat",): 3, ("completions",): 1}),
        ("day", {("2025-11-25",): 2, ("2025-11-26",): 1, ("2025-11-27",): 1}),
    ],
)
def test_usage_by_others(filled: Path, by: str, groups: dict[tuple[str, ...], int]) -> None:
    width = len(next(iter(groups)))
    found = summed(filled, "--by", by)
    assert {tuple(row.values())[:width]: row["requests"] for row in found} == groups


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["id-0", "id-1", "id-2", "id-3"]),
        (["--tenant", "alice"], ["id-0", "id-1", "id-2"]),
        (["--since", "2025-11-26"], ["id-2", "id-3"]),
        (["--since", "2025-11-26T12:00", "--until", "2025-11-27T12:00:00Z"], ["id-2"]),
        (["--since", "2025-11-26T14:00+02:00"], ["id-2", "id-3"]),
        (["--since", "1m"], []),
    ],
)
def test_usage_of_a_time_and_a_tenant(filled: Path, arguments: list[str], ids: list[str]) -> None:
    assert [row["id"] for row in summed(filled, "--by", "request", *arguments)] == ids


def test_usage_as_csv_and_as_a_table(filled: Path) -> None:
    text = CliRunner().invoke(usage, ["--ledger", str(filled), "--csv"]).stdout
    found = list(csv.DictReader(io.StringIO(text)))
    assert [(row["tenant"], row["total_tokens"]) for row in found] == [("alice", "45"), ("bob", "15")]
    table = CliRunner().invoke(usage, ["--ledger", str(filled)]).stdout.splitlines()
    assert table[0].split()[:2] == ["TENANT", "REQUESTS"]
    assert table[2].split()[:2] == ["bob", "1"]
