"""Defects of the routes for operators: the page of metrics, the health."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from realm_mocks.server.errors import ApiError
from realm_mocks.server.metrics import BUCKETS, Family, Sample
from realm_mocks.server.replies import Reply
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import State, Variation

Families = list[Family]
Hook = Callable[[Families, State], Families]
DURATION = "realm_request_duration_seconds"
TTFT = "realm_time_to_first_token_seconds"


def _on(name: str, bend: Callable[[Family], Family]) -> Hook:
    """A hook on one family."""
    return lambda families, _: [bend(f) if f.name == name else f for f in families]


def _on_samples(name: str, bend: Callable[[Sample], Sample | None]) -> Hook:
    """A hook on each sample of one family; None leaves it out."""

    def bend_family(family: Family) -> Family:
        bent = (bend(sample) for sample in family.samples)
        return replace(family, samples=tuple(sample for sample in bent if sample is not None))

    return _on(name, bend_family)


def _web_page(path: str, reply: Reply) -> Reply:
    return replace(reply, content_type="text/html") if path == "/metrics" else reply


def _torn(path: str, reply: Reply) -> Reply:
    """The page is cut in the middle of a line, as by a buffer of fixed size."""
    if path != "/metrics":
        return reply
    return replace(reply, body=reply.payload()[: reply.payload().rindex(b'le="') + 4])


def _falls(families: Families, state: State) -> Families:
    """Every other scrape meets another worker, which has counted nothing."""
    state.notes["scrapes"] = state.notes.get("scrapes", 0) + 1
    if state.notes["scrapes"] % 2:
        return families
    return [
        replace(f, samples=tuple(replace(s, value=0) for s in f.samples)) if f.kind == "counter" else f
        for f in families
    ]


def _twice(family: Family) -> Family:
    return replace(family, samples=(*family.samples, *family.samples))


def _not_cumulative(families: Families, _: State) -> Families:
    return [
        replace(f, samples=tuple(_own_counts(f.samples))) if f.kind == "histogram" else f for f in families
    ]


def _own_counts(samples: tuple[Sample, ...]) -> list[Sample]:
    """Each bucket with what is in it alone; the last one stays the count of all."""
    bent, before = list(samples), 0.0
    for index in range(len(BUCKETS)):
        bent[index] = replace(samples[index], value=samples[index].value - before)
        before = samples[index].value
    return bent


def _backwards(family: Family) -> Family:
    buckets = [sample for sample in family.samples if sample.suffix == "_bucket"]
    rest = [sample for sample in family.samples if sample.suffix != "_bucket"]
    return replace(family, samples=(*reversed(buckets), *rest))


def _without_infinity(sample: Sample) -> Sample | None:
    return None if ("le", "+Inf") in sample.labels else sample


def _count_off(sample: Sample) -> Sample:
    return replace(sample, value=sample.value + 1) if sample.suffix == "_count" else sample


def _without_sum(sample: Sample) -> Sample | None:
    return None if sample.suffix == "_sum" else sample


def _zero(sample: Sample) -> Sample:
    return replace(sample, value=0)


def _ttft_is_duration(families: Families, _: State) -> Families:
    durations = next(f.samples for f in families if f.name == DURATION)
    return [replace(f, samples=durations) if f.name == TTFT else f for f in families]


def _output_with_prompt(families: Families, _: State) -> Families:
    total = next(f.samples[0].value for f in families if f.name == "realm_usage_tokens_total")
    return _on_samples("realm_usage_output_tokens_total", lambda s: replace(s, value=total))(families, _)


def _note_message(state: State, error: ApiError) -> None:
    counts = state.notes.setdefault("messages", {})
    name = error.message.replace("\\", "").replace('"', "").replace("\n", " ")
    counts[name] = counts.get(name, 0) + 1


def _label_messages(families: Families, state: State) -> Families:
    labelled = tuple(
        Sample(count, (("error_type", message),))
        for message, count in state.notes.get("messages", {}).items()
    )
    return _on("realm_requests_errors_total", lambda f: replace(f, samples=labelled))(families, state)


def _halved(sample: Sample) -> Sample:
    return replace(sample, value=sample.value // 2)


def _doubled(sample: Sample) -> Sample:
    return replace(sample, value=sample.value * 2)


def _milliseconds(sample: Sample) -> Sample:
    return replace(sample, value=sample.value * 1e3) if sample.suffix == "_sum" else sample


def _unwell(path: str, reply: Reply) -> Reply:
    return Reply(503, {"status": "unhealthy"}) if path == "/health" else reply


DEFECTS = (
    Variation(
        "health-unwell",
        "/health answers 503 while everything works",
        "realm-defects 29",
        reply=_unwell,
    ),
    Variation(
        "metrics-web-page",
        "the metrics are labelled text/html",
        "clause: the exposition format",
        reply=_web_page,
    ),
    Variation(
        "metrics-torn", "the page of metrics ends in the middle of a line", "clause: it parses", reply=_torn
    ),
    Variation(
        "metrics-no-type",
        "a counter has no TYPE",
        "realm-defects 30",
        metrics=_on("realm_requests_total", lambda f: replace(f, kind="")),
    ),
    Variation(
        "metrics-no-help",
        "a histogram has no HELP",
        "realm-defects 30",
        metrics=_on(DURATION, lambda f: replace(f, help="")),
    ),
    Variation(
        "metrics-series-twice",
        "the same series stands on the page twice",
        "clause: once; Prometheus refuses the whole page",
        metrics=_on("realm_requests_by_status_total", _twice),
    ),
    Variation(
        "metrics-nan",
        "a counter is NaN until something is counted",
        "clause: counts are numbers",
        metrics=_on_samples("realm_usage_tokens_total", lambda s: replace(s, value=float("nan"))),
    ),
    Variation(
        "metrics-counter-falls",
        "counters are those of whichever worker answers the scrape",
        "clause: counters only rise; prometheus-client has a mode of its own for several workers",
        metrics=_falls,
    ),
    Variation(
        "metrics-buckets-alone",
        "histogram buckets are not cumulative",
        "clause: buckets are cumulative",
        metrics=_not_cumulative,
    ),
    Variation(
        "metrics-buckets-backwards",
        "a histogram begins with its last bucket",
        "clause: buckets in increasing order of le",
        metrics=_on(DURATION, _backwards),
    ),
    Variation(
        "metrics-no-infinity",
        "a histogram has no +Inf bucket",
        "clause: the last bucket is +Inf",
        metrics=_on_samples(DURATION, _without_infinity),
    ),
    Variation(
        "metrics-count-off",
        "a histogram's count is not its +Inf bucket",
        "clause: they are equal",
        metrics=_on_samples(DURATION, _count_off),
    ),
    Variation(
        "metrics-no-sum",
        "a histogram has no sum",
        "clause: a histogram has a sum",
        metrics=_on_samples(DURATION, _without_sum),
    ),
    Variation(
        "metrics-success-uncounted",
        "answered requests are not counted",
        "realm-defects 30",
        metrics=_on_samples("realm_requests_success_total", _zero),
    ),
    Variation(
        "metrics-errors-other",
        "refused requests are not counted by kind",
        "realm-defects 30",
        metrics=_on(
            "realm_requests_errors_total",
            lambda f: replace(
                f, samples=(Sample(sum(s.value for s in f.samples), (("error_type", "other"),)),)
            ),
        ),
    ),
    Variation(
        "metrics-output-with-prompt",
        "the counter of generated tokens counts the prompts too",
        "realm-defects 23",
        metrics=_output_with_prompt,
    ),
    Variation(
        "metrics-input-uncounted",
        "prompt tokens are not counted",
        "realm-defects 23",
        metrics=_on_samples("realm_usage_input_tokens_total", _zero),
    ),
    Variation(
        "metrics-ttft-is-duration",
        "the time to the first token is that of the whole answer",
        "realm-defects 30",
        schedule=Schedule(ttft=0.01, itl=0.02),
        metrics=_ttft_is_duration,
    ),
    Variation(
        "metrics-ttft-uncounted",
        "the histogram of first tokens stays empty",
        "realm-defects 30",
        metrics=_on_samples(TTFT, _zero),
    ),
    Variation(
        "metrics-duration-uncounted",
        "the histogram of durations stays empty",
        "realm-defects 30",
        metrics=_on_samples(DURATION, _zero),
    ),
    Variation(
        "metrics-requests-halved",
        "the counter of all requests has half of them",
        "a counter of one of two workers",
        metrics=_on_samples("realm_requests_total", _halved),
    ),
    Variation(
        "metrics-generated-twice",
        "generated tokens are counted twice",
        "realm-defects 23",
        metrics=_on_samples("realm_tokens_generated_total", _doubled),
    ),
    Variation(
        "metrics-sum-milliseconds",
        "the sum of the durations is in milliseconds",
        "Prometheus, naming: base units",
        metrics=_on_samples(DURATION, _milliseconds),
    ),
    Variation(
        "metrics-message-label",
        "errors are counted by their message, which holds what the client sent",
        "clause: no label grows with what clients send",
        on_error=_note_message,
        metrics=_label_messages,
    ),
    Variation(
        "metrics-running-zero",
        "the gauge of running requests is always 0",
        "realm-defects 30",
        schedule=Schedule(ttft=0.01, itl=0.02),
        metrics=_on_samples("realm_requests_running", _zero),
    ),
)
