"""A disk that fills: the run goes on, its figures are said, and what was written stays readable."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from realm_loadtests.commands.load import load
from realm_loadtests.records.records import Record, RecordFile, read_records
from realm_mocks.server import MockServer, Schedule

LIMIT_BYTES = 6000
LIMITED = (
    f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES})); "
    "from realm_loadtests.commands.load import load; load()"
)


def test_a_run_whose_disk_fills_says_its_figures_and_keeps_its_records(tmp_path: Path) -> None:
    """Files may not grow past a limit here: the same refusals, without filling the machine's disk."""
    arguments = ["--users", "4", "--duration", "3s", "--out", str(tmp_path)]
    with MockServer(Schedule(ttft=0.01, itl=0.002, tokens=8)) as server:
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, server.url, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        served = sum(record.stream for record in server.records) - 1
    assert done.returncode == 2, done.stderr
    assert f"{served} completed" in done.stdout
    assert "records could not be written" in done.stdout
    # Not the last line: where coverage is measured, it too finds the disk full.
    assert f"\nrealm load: {tmp_path / 'load.json'} could not be written" in f"\n{done.stderr}"
    assert 0 < (tmp_path / "requests.jsonl").stat().st_size <= LIMIT_BYTES
    again = CliRunner().invoke(load, ["report", str(tmp_path)])
    assert again.exit_code == 0, again.output
    assert "time to first token" in again.output


def test_a_record_cut_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    file.write(Record("completed", 1, 1).to_json())
    size = (tmp_path / "requests.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        file.write(Record("completed", 2, 1).to_json())
        assert file.error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.write(Record("completed", 3, 1).to_json())
    file.close()
    assert [record.at_us for record in read_records(tmp_path)] == [1, 3]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with MockServer() as server:
        said = CliRunner().invoke(load, [server.url, "--out", str(tmp_path / "file" / "below")])
    assert said.exit_code == 2
    assert "cannot be used (Not a directory): name another with --out" in said.output
