"""The result of a load test as a person reads it on a terminal."""

from __future__ import annotations

from typing import Any

from realm_loadtests.report.checks import meaning
from realm_loadtests.report.course import course
from realm_loadtests.report.text import number, visible

ROWS = (
    ("time to first token", "ttft_ms"),
    ("between tokens", "itl_ms"),
    ("whole answer", "e2e_ms"),
)
COLUMNS = ("p50", "p90", "p99", "max")


def summarise(result: dict[str, Any]) -> str:
    """Render a load.json document as a short text with units."""
    figures, settings, target = result["figures"], result["settings"], result["target"]
    seconds = figures["window_s"]
    load = f"arrivals {settings['arrivals']}" if settings["arrivals"] else f"{settings['users']} users"
    lines = [
        f"{visible(target['model'])} at {visible(target['url'])}: {load} for {seconds:.1f} s, "
        f"up to {settings['max_tokens']} tokens an answer",
        "",
        f"  {'latency, ms':<22}" + "".join(f"{name:>10}" for name in COLUMNS),
    ]
    for title, key in ROWS:
        lines.append(f"  {title:<22}" + "".join(f"{number(figures[key][name]):>10}" for name in COLUMNS))
    lines += [
        "",
        *_rates(figures),
        *_stalls(figures["stalls"]),
        *_lengths(result["lengths"]),
        *_errors(figures),
        *course(result),
    ]
    lines += [*_arrivals(result), *_tenants(result), *_server(result["server"]), *_objectives(result)]
    lines += ["", *_trust(result), *_error_bar(result["calibration"])]
    if result["generator"]["may_be_the_bottleneck"]:
        lines += ["", *_warning(result["generator"])]
    if result["note"]:
        lines += ["", f"  Note: {result['note']}."]
    return "\n".join(lines)


def _trust(result: dict[str, Any]) -> list[str]:
    """How far the figures of another run might lie, and where this one became steady."""
    lines = []
    ends = {name: result["intervals"][name] for name in ("ttft_p50", "ttft_p99", "itl_p99")}
    if all(ends.values()):
        said = ", ".join(
            f"{name.upper().replace('_P', ' p')} {number(low)} to {number(high)}"
            for name, (low, high) in ends.items()
        )
        lines.append(f"  95 % intervals, ms: {said}")
    if warm_up := result["steady"]["warm_up_s"]:
        ttft = result["steady"]["figures"]["ttft_ms"]
        lines.append(
            f"  Steady after {warm_up:.1f} s: TTFT p50 {number(ttft['p50'])} ms, p99 {number(ttft['p99'])} ms"
        )
    return lines


def _error_bar(calibrated: dict[str, Any] | None) -> list[str]:
    if calibrated is None:
        return ["  The instrument's error here is unknown: realm calibrate measures it once."]
    (ttft, ttft_p99), (itl, itl_p99) = (
        [number(calibrated[name][rank]) for rank in ("p50", "p99")] for name in ("ttft", "itl")
    )
    return [
        f"  Instrument's error (calibrated at {calibrated['streams']} streams): TTFT ±{ttft} ms "
        f"(p99 ±{ttft_p99}), between tokens ±{itl} ms (p99 ±{itl_p99})"
    ]


def _arrivals(result: dict[str, Any]) -> list[str]:
    """How the open loop kept its schedule, and what a closed loop would have hidden."""
    found = result["arrivals"]
    if not found:
        return []
    late, hidden = found["late_ms"], found["ttft_from_sending_ms"]
    lines = [
        "",
        f"  sent {number(found['rate'])} a second, CV of the gaps {number(found['gap_cv'])}, "
        f"late p50 {number(late['p50'])} ms, p99 {number(late['p99'])} ms",
    ]
    seen = result["figures"]["ttft_ms"]["p99"]
    if seen and seen > 1.1 * hidden["p99"]:
        lines.append(
            f"  From the sending, TTFT p99 would be {number(hidden['p99'])} ms instead of {number(seen)}: "
            "the rest is a wait that a closed loop hides."
        )
    return lines


def _tenants(result: dict[str, Any]) -> list[str]:
    found = result["tenants"]
    if not found:
        return []
    lines = ["", f"  {'tenant':<22}{'TTFT p50':>10}{'p99':>10}{'tokens/s':>10}{'failed':>10}"]
    for name, each in found["each"].items():
        ttft, rate = each["ttft_ms"], each["tokens_per_second"]
        lines.append(
            f"  {name:<22.22}{number(ttft['p50']):>10}{number(ttft['p99']):>10}{number(rate):>10}"
            f"{each['failed']:>10}"
        )
    return [*lines, f"  Jain's fairness index of their tokens: {number(found['jain_tokens'])}"]


def _server(found: dict[str, Any] | None) -> list[str]:
    """Where the server's own figures and its clients' disagree."""
    lines = [
        f"  The server's own figures: {visible(finding)}" for finding in (found or {}).get("findings", [])
    ]
    return ["", *lines] if lines else []


def _objectives(result: dict[str, Any]) -> list[str]:
    lines = []
    for verdict in result["slo"]:
        met = "met   " if verdict["met"] else "MISSED"
        lines.append(f"  SLO {met} {verdict['objective']}   (seen: {number(verdict['value'])})")
    if lines:
        lines.append(f"  goodput {number(result['figures']['goodput'])} requests a second kept every limit")
    return ["", *lines] if lines else []


def _warning(generator: dict[str, Any]) -> list[str]:
    late, share = number(generator["lag_ms"]["p99"]), generator["cpu_share"] or 0
    return [
        f"  Careful: the load generator woke up to {late} ms late (p99) and used {share:.0%} of its CPU.",
        "  Its own delay is part of these latencies; give it a quieter machine or fewer users.",
    ]


def _rates(figures: dict[str, Any]) -> list[str]:
    counted_by = " and ".join(figures["tokens_counted_by"]) or "nothing"
    source = {"usage": "the server's usage", "events": "stream events"}.get(counted_by, counted_by)
    return [
        f"  {'tokens/s in all':<22}{number(figures['tokens_per_second']):>10}   (counted by {source})",
        f"  {'tokens/s of one user':<22}{number(figures['tokens_per_second_per_user']):>10}",
        f"  {'requests':<22}{figures['requests']:>10}   {figures['completed']} completed, "
        f"{figures['failed']} failed, {figures['cut']} cut by the end of the run",
    ]


def _stalls(found: dict[str, Any]) -> list[str]:
    if not found["count"]:
        return []
    length = found["length_ms"]
    return [
        f"  {'stalls':<22}{found['count']:>10}   in {found['share_of_streams']:.1%} of {found['of_streams']} "
        f"streams: gaps over {number(found['over_ms'])} ms, p50 {number(length['p50'])} ms, "
        f"max {number(length['max'])} ms"
    ]


def _lengths(found: dict[str, Any] | None) -> list[str]:
    if not found or not found["prompts"]:
        return []
    line = f"  {'drawn lengths':<22}{found['prompts']:>10}   prompts, {found['exact']:.1%} exact by usage"
    if found["answers"]:
        line += f"; {found['whole']:.1%} of the answers went so far"
    return [line]


def _errors(figures: dict[str, Any]) -> list[str]:
    if not figures["errors"]:
        return []
    lines = ["", "  failures"]
    for kind, count in figures["errors"].items():
        lines.append(f"  {kind:<22}{count:>10}   {meaning(kind)}")
    return lines
