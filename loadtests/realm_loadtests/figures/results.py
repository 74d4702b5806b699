"""load.json: the result of a load test, in the form that the report and a pipeline read."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from importlib.metadata import version
from pathlib import Path
from typing import Any

from realm_loadtests.calibration import instrument as calibration
from realm_loadtests.figures import slo, stalls
from realm_loadtests.figures.course import drift, outages
from realm_loadtests.figures.definitions import BUSY_SHARE, DEFINITIONS, LATE_MS
from realm_loadtests.figures.lengths import lengths
from realm_loadtests.figures.resampling import intervals
from realm_loadtests.figures.serverside import compare
from realm_loadtests.figures.steady import warm_up_s
from realm_loadtests.records.begun import Begun
from realm_loadtests.records.measures import Latency, Measures
from realm_loadtests.records.records import Record
from realm_loadtests.records.scrapes import Scrape
from realm_loadtests.users.arrivals import rhythm
from realm_loadtests.users.tenants import jain

SCHEMA = "realm-load/1"
INTERVALS = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "e2e_p50", "error_rate")


def build(
    begun: Begun,
    measures: Measures,
    records: Sequence[Record],
    *,
    seconds: float,
    note: str | None,
    objectives: Sequence[slo.Objective] = (),
    scrapes: Sequence[Scrape] = (),
) -> dict[str, Any]:
    """Put the result together; times in milliseconds, figures without values null."""
    settings = asdict(begun.settings)
    url, model = settings.pop("url"), settings.pop("model")
    settings.pop("folder")
    settings["tenants"] = Path(settings["tenants"]).name if settings["tenants"] else None
    limit_us = stalls.threshold_us(measures.itl, settings["stall_factor"])
    found = figures(measures) | {"stalls": stalled(records, limit_us)}
    calibrated = _calibrated(settings["users"] // settings["processes"])
    used = generator(measures, settings["processes"])
    if objectives:
        found["goodput"] = slo.goodput(records, objectives, measures.window_s)
    return {
        "schema": SCHEMA,
        "tool": {"name": "realm-harness", "version": version("realm-harness")},
        "target": {"url": url, "model": model, "server_header": begun.server_header},
        "settings": settings | {"prompts": "given" if settings["prompt"] else "built-in"},
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {
            name: version(name) for name in ("locust", "gevent", "hdrhistogram", "numpy", "matplotlib")
        },
        "started": begun.started.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "note": note,
        "figures": found,
        "intervals": intervals(records, INTERVALS, settings["seed"]),
        "steady": steady(records, settings["seed"]),
        "outages": outages(records),
        "drift": drift(records, warm_up_s(records) or 0.0, measures.window_s, settings["seed"]),
        "arrivals": arrivals(measures, records) if settings["arrivals"] else None,
        "lengths": lengths(records),
        "tenants": tenants(records, measures.window_s, limit_us),
        "slo": [objective.judge(found) for objective in objectives],
        "server": compare(scrapes, measures, records, _error_ms(used, calibrated)),
        "generator": used,
        "calibration": calibrated,
        "definitions": DEFINITIONS,
    }


def figures(measures: Measures) -> dict[str, Any]:
    """The figures that `DEFINITIONS` defines."""
    judged = measures.completed + measures.failed
    return {
        "ttft_ms": _latency(measures.ttft),
        "first_event_ms": _latency(measures.first_event),
        "queue_ms": _latency(measures.late),
        "itl_ms": _latency(measures.itl),
        "e2e_ms": _latency(measures.e2e),
        "tpot_ms": _latency(measures.tpot),
        "requests_per_second": _ratio(measures.completed, measures.window_s),
        "tokens_per_second": _ratio(measures.window_tokens, measures.window_s),
        "tokens_per_second_per_user": _ratio(measures.decode_tokens, measures.decode_us / 1e6),
        "token_events_per_second": _ratio(measures.window_events, measures.window_s),
        "token_events_per_second_per_user": _ratio(measures.decode_events, measures.decode_us / 1e6),
        "tokens": measures.tokens,
        "prompt_tokens": measures.prompt_tokens,
        "tokens_counted_by": dict(measures.counted_by),
        "requests": measures.requests,
        "completed": measures.completed,
        "failed": measures.failed,
        "cut": measures.cut,
        "cancelled": measures.cancelled,
        "slow": measures.slow,
        "completed_without_text": measures.without_text,
        "error_rate": _ratio(measures.failed, judged),
        "errors": dict(measures.errors.most_common()),
        "window_s": round(measures.window_s, 3),
    }


def _calibrated(streams: int) -> dict[str, Any] | None:
    """The instrument's error with so many streams a process, as it was measured on this machine; None: never,
    or not with so many.
    """
    kept = calibration.kept()
    level = kept.level(streams) if kept else None
    if kept is None or level is None:
        return None
    return {"measured": kept.measured, **asdict(level), "trusted": level.trusted}


def _error_ms(used: dict[str, Any], calibrated: dict[str, Any] | None) -> dict[str, float]:
    """The instrument's error at p99: as calibrated, or else, more roughly, how late it woke in this run."""
    lag: float = used["lag_ms"]["p99"] or 0.0
    return {name: max(lag, calibrated[name]["p99"]) if calibrated else lag for name in ("ttft", "itl")}


def arrivals(measures: Measures, records: Sequence[Record]) -> dict[str, Any]:
    """How an open loop kept its schedule, and what a closed loop's clocks would have said of the same run."""
    return {
        "late_ms": _latency(measures.late),
        **rhythm(sorted(record.at_us / 1e6 for record in records)),
        "ttft_from_sending_ms": _latency(measures.ttft_sent),
        "e2e_from_sending_ms": _latency(measures.e2e_sent),
    }


def steady(records: Sequence[Record], seed: int) -> dict[str, Any]:
    """Where the warm-up ended, and the latencies of what came after it."""
    end = warm_up_s(records)
    if end is None:
        return {"warm_up_s": None, "figures": None}
    after = [record for record in records if record.at_us >= end * 1e6]
    part = Measures.of(after)
    latencies = {f"{name}_ms": _latency(getattr(part, name)) for name in ("ttft", "itl", "e2e")}
    return {"warm_up_s": end, "figures": latencies, "intervals": intervals(after, INTERVALS, seed)}


def tenants(records: Sequence[Record], window_s: float, stall_us: float) -> dict[str, Any] | None:
    """Each tenant's own figures, and how fair the server was to them; None for a run without tenants."""
    names = sorted({record.tenant for record in records if record.tenant})
    if not names:
        return None
    theirs = {name: [record for record in records if record.tenant == name] for name in names}
    parts = {name: Measures.of(each) for name, each in theirs.items()}
    for part in parts.values():
        part.window_s = window_s
    return {
        "jain_tokens": jain([part.window_tokens for part in parts.values()]),
        "each": {
            name: figures(part) | {"stalls": stalled(theirs[name], stall_us)} for name, part in parts.items()
        },
    }


def stalled(records: Sequence[Record], limit_us: float) -> dict[str, Any]:
    """The stalls: gaps above the limit, their number, whose they were, and how long."""
    counts, lengths = stalls.find(records, limit_us)
    return {
        "over_ms": round(limit_us / 1000, 3) if math.isfinite(limit_us) else None,
        **counts,
        "length_ms": _latency(lengths),
    }


def generator(measures: Measures, processes: int) -> dict[str, Any]:
    """What the generator used, how late it was itself, and whether that may be in the latencies."""
    share = _ratio(measures.cpu_s, measures.window_s * processes)
    lag, late = _latency(measures.lag), _latency(measures.late)
    return {
        "cpu_seconds": round(measures.cpu_s, 3),
        "cpu_share": share,
        "token_events": measures.token_events,
        "cpu_seconds_per_1000_events": _ratio(1000 * measures.cpu_s, measures.token_events),
        "lag_ms": lag,
        "lost_workers": measures.lost_workers,
        "may_be_the_bottleneck": measures.lost_workers > 0
        or (share or 0) > BUSY_SHARE
        or (lag["p99"] or 0) > LATE_MS
        or (late["p99"] or 0) > LATE_MS,
    }


def _latency(latency: Latency) -> dict[str, Any]:
    names = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    quantiles = zip(names, latency.quantiles_us(list(names.values())), strict=True)
    return {
        "count": latency.count,
        "mean": _ms(latency.mean_us),
        **{name: _ms(value) for name, value in quantiles},
        "hdr": latency.encode(),
    }


def _ms(value_us: float) -> float | None:
    return None if math.isnan(value_us) else round(value_us / 1000, 3)


def _ratio(value: float, by: float) -> float | None:
    return round(value / by, 6) if by else None
