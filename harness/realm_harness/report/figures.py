"""The names, units and formats of figures, the same in the HTML report and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from realm_harness.report.model import Case, CaseVerdict, Load

LATENCY_NAMES = {
    "ttft_ms": "Time to first token",
    "itl_ms": "Inter-token latency",
    "e2e_ms": "Whole request",
}
CHAPTER_NAMES = {
    "http": "HTTP",
    "replies": "Heads of replies",
    "errors": "Errors",
    "refusals": "Refusals of every kind",
    "auth": "Authentication",
    "schema": "Shape of answers",
    "models": "Models and operations",
    "stream": "Streaming",
    "same": "Streamed equals whole",
    "utf8": "UTF-8",
    "stop": "Stop strings",
    "length": "Length limits",
    "usage": "Token usage",
    "sample": "Sampling",
    "logprobs": "Log probabilities",
    "bias": "Biases and penalties",
    "format": "Response formats",
    "tools": "Tools",
    "tokenize": "Token ids",
    "completions": "Text completions",
    "several": "Several choices",
    "exact": "What is told twice",
    "read": "Whole requests",
    "metrics": "Metrics",
    "counts": "What the metrics count",
    "concurrency": "Concurrency",
    "cancel": "Cancellation",
    "tenants": "Tenants and limits",
    "wsauth": "WebSocket: handshake",
    "wscalls": "WebSocket: calls",
    "wsanswers": "WebSocket: answers",
    "wsframes": "WebSocket: frames",
    "hostile": "Hostile requests",
    "crowd": "Crowds of connections",
}
_ABBREVIATIONS = {"ttft": "TTFT", "itl": "ITL", "e2e": "end-to-end", "cdf": "distribution"}
VERDICT_NAMES: dict[CaseVerdict, str] = {
    "ok": "OK",
    "failed": "Failed",
    "non_strict": "Non-strict",
    "unimplemented": "Not implemented",
    "informational": "Informational",
}
VERDICT_MEANINGS: dict[CaseVerdict, str] = {
    "ok": "The clause held.",
    "failed": "A MUST clause is broken: clients that rely on the contract will go wrong.",
    "non_strict": "A SHOULD clause is broken: most clients cope. It fails the run only with --level should.",
    "unimplemented": "The server says clearly that it does not support this, which is an honest answer.",
    "informational": "Recorded because servers differ; nothing is judged.",
}


def milliseconds(value: float | None) -> str:
    """A latency with three significant digits; a dash where nothing was measured."""
    if value is None:
        return "–"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def rate(value: float | None) -> str:
    """A rate with a sensible number of digits."""
    return milliseconds(value)


def duration(seconds: float) -> str:
    """A span of time for a person: 0.42 s, 12.3 s, 3 min 5 s."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def chapter_name(chapter: str) -> str:
    """A chapter's heading; an unknown chapter is shown as it is called."""
    return CHAPTER_NAMES.get(chapter, chapter)


def held(cases: Sequence[Case]) -> str:
    """How many of the judged cases held; a dash where none was judged."""
    judged = [case for case in cases if case.verdict in ("ok", "failed", "non_strict")]
    return f"{sum(case.verdict == 'ok' for case in judged)}/{len(judged)}" if judged else "–"


def latency_pair(load: Load, name: str) -> tuple[str, str]:
    """The p50 and p99 of a latency, with their unit."""
    distribution = load.latencies.get(name)
    values = (None, None) if distribution is None else (distribution.p50, distribution.p99)
    p50, p99 = ("–" if value is None else f"{milliseconds(value)} ms" for value in values)
    return p50, p99


def latency_name(name: str) -> str:
    """The field's name for a latency figure; an unknown one is shown as it is called."""
    return LATENCY_NAMES.get(name, name)


def plot_name(name: str) -> str:
    """A plot's name as words: `ttft_over_time` is "TTFT over time"."""
    words = [_ABBREVIATIONS.get(word, word) for word in name.split("_")]
    return " ".join(words)[:1].upper() + " ".join(words)[1:]
