"""A whole load test: look at the target, load it, write the result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realm_loadtests.figures import results
from realm_loadtests.figures.slo import Objective
from realm_loadtests.records.begun import RUN_FILE, Begun, NoRun
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import RECORDS_FILE, Record, read_records
from realm_loadtests.records.scrapes import SCRAPES_FILE, read_scrapes
from realm_loadtests.runs.launch import run_locust
from realm_loadtests.runs.preflight import check
from realm_loadtests.runs.scraping import Scraper, metrics_url
from realm_loadtests.settings import Settings
from realm_loadtests.users.tenants import read_tenants
from realm_loadtests.wire.connection import Target
from realm_loadtests.wire.websocket import Dialogue, is_websocket

RESULT_FILE = "load.json"
FAILED, CLIENT_LIMITED, SLO_MISSED = 1, 3, 4
"""Exit codes; 2 is wrong usage, or a target that cannot be tested."""


class Unwritten(Exception):
    """The run is over, and its `result` could not be written; one line with the remedy."""

    def __init__(self, path: Path, error: OSError, result: dict[str, Any]) -> None:
        super().__init__(
            f"{path} could not be written ({error.strerror}): free some space, then realm load report "
            f"{path.parent} makes it again from the records that were kept"
        )
        self.result = result


def run(
    settings: Settings,
    *,
    api_key: str | None = None,
    on_progress: Callable[[dict[str, Any]], None] = lambda state: None,
    web_port: int | None = None,
    bind: tuple[str, int] | None = None,
    objectives: Sequence[Objective] = (),
) -> dict[str, Any]:
    """Run the load test; return the document that it wrote to load.json in the settings' folder.

    Raises `TargetUnusable` before any load, `LocustFailed`, ValueError for a URL that is none, OSError if the
    folder cannot be written, and `Unwritten` if that is so only in the end.
    """
    if is_websocket(settings.url):
        Dialogue(settings.url, None)
    else:
        Target.parse(settings.url)
    if settings.output is None:
        raise ValueError("a load test needs a folder for its result")
    folder = settings.output
    _prepare(folder)
    first = read_tenants(Path(settings.tenants))[0].key if settings.tenants else None
    found = check(settings, api_key=api_key or first)
    begun = Begun(found.settings, found.server_header, datetime.now(UTC))
    begun.write(folder)
    begin = time.monotonic()
    page = metrics_url(settings.url) if settings.metrics is None else settings.metrics
    with Scraper(page, api_key or first, folder, settings.duration_s) as scraper:
        measures, note = run_locust(
            found.settings,
            folder,
            api_key=api_key,
            on_progress=scraper.align(on_progress),
            web_port=web_port,
            bind=bind,
        )
    records = list(read_records(folder))
    return _write_result(folder, begun, measures, records, time.monotonic() - begin, note, objectives)


def report(folder: Path, objectives: Sequence[Objective] = ()) -> dict[str, Any]:
    """Make the result of the run in `folder` again, from its records; also of one that was killed.

    Returns the document that it wrote to load.json. Raises NoRun, and OSError if the folder cannot be
    written.
    """
    begun = Begun.read(folder)
    records = list(read_records(folder))
    measures = Measures.of(records)
    if not measures.requests:
        raise NoRun(f"{folder} has no request in its {RECORDS_FILE}: its run ended before one did")
    note = "made again from the records; the generator's own figures are not in them"
    return _write_result(folder, begun, measures, records, measures.window_s, note, objectives)


def _write_result(
    folder: Path,
    begun: Begun,
    measures: Measures,
    records: Sequence[Record],
    seconds: float,
    note: str | None,
    objectives: Sequence[Objective],
) -> dict[str, Any]:
    from realm_loadtests.report.plots import (
        draw,  # matplotlib is slow to import, and only a finished run needs it
    )

    result = results.build(
        begun,
        measures,
        records,
        seconds=seconds,
        note=note,
        objectives=objectives,
        scrapes=list(read_scrapes(folder)),
    )
    result["plots"] = draw(records, result)
    path = folder / RESULT_FILE
    try:
        path.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # half a result is none
        raise Unwritten(path, error, result) from None
    return result


def exit_code(result: dict[str, Any], allowed_errors: float) -> int:
    """How the run ended, for a pipeline: the first of these that is so.

    1: no request was completed, or more than the allowed share (0 to 1) failed. 3: an SLO or an open loop was
    asked for, and the generator itself may have been the bottleneck, so that the figures prove nothing.
    4: an objective was missed. 0: all well.
    """
    figures = result["figures"]
    if not figures["completed"] or figures["error_rate"] > allowed_errors:
        return FAILED
    judged = result["slo"] or result["arrivals"]
    if judged and result["generator"]["may_be_the_bottleneck"]:
        return CLIENT_LIMITED
    return SLO_MISSED if any(not verdict["met"] for verdict in result["slo"]) else 0


def _prepare(folder: Path) -> None:
    """Make the folder, without the files of an earlier run: records are appended to."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RUN_FILE, RECORDS_FILE, SCRAPES_FILE, RESULT_FILE):
        (folder / name).unlink(missing_ok=True)
