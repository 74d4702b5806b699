"""What each figure of a result means, in the words that a report prints beside it."""

from __future__ import annotations

BUSY_SHARE = 0.8
"""The share of a CPU above which a load generator's own delay shows in its latencies."""
LATE_MS = 10.0
"""The lag (99th percentile, in milliseconds) above which the same is so, whatever the CPU share."""

DEFINITIONS = {
    "ttft_ms": (
        "Time to first token: from the moment before the request's first byte is sent to the read that "
        "completed the first event carrying text; a chunk that only names the role is none. Connecting "
        "is not in it. In an open loop it counts from the intended start, with all that came between."
    ),
    "first_event_ms": (
        "Time to the first event of any kind, counted as ttft_ms: what that would be if the chunk that only "
        "names the role passed for a token. Over HTTP only."
    ),
    "queue_ms": (
        "Time in the generator's queue: of an open loop, from the intended start to the sending, connecting "
        "included. It is in ttft_ms and e2e_ms. A server's own queue is server.latencies.queue_ms."
    ),
    "itl_ms": (
        "Inter-token latency: the gap between two events carrying text that follow each other in a "
        "stream; every gap of every stream counts once, none is averaged over its request."
    ),
    "stalls": (
        "Gaps between tokens of completed requests longer than over_ms, which is stall_factor (a setting, 4 "
        "if nothing is said) times the median gap of the run, and 10 ms at least: how many, in how many of "
        "the streams, what share of the time between first and last tokens they were, and how long each "
        "was. A mean over the request, as TPOT is, hides them."
    ),
    "server": (
        "What the server's own /metrics said of the same run: the difference between a scrape before the "
        "load and one after it, beside the clients' figures of completed requests, from the sending; "
        "p50 and p99 of a histogram lie between two of its bounds. findings are the sentences on what "
        "does not agree within the instrument's error, a round trip to the server, and 5 %. over_time are "
        "the scrapes meanwhile. Null: it has no such page, or none whose names are known."
    ),
    "e2e_ms": (
        "End-to-end latency: from the moment before the request's first byte is sent (in an open loop: from "
        "the intended start) to the read that completed the stream's last event."
    ),
    "tpot_ms": (
        "Time per output token after the first: of each request, the time from its first to its last token "
        "event over its tokens less one. A mean over the request: a stall hides in it, not in itl_ms."
    ),
    "requests_per_second": "Completed requests, divided by the time from the start to the duration's end.",
    "goodput": (
        "Completed requests a second that kept every latency limit of the SLO themselves; a limit on itl is "
        "held against a request's tpot."
    ),
    "arrivals": (
        "Of an open loop: late_ms, from the intended start to the sending; the rate of the sendings a second "
        "and gap_cv, the coefficient of variation of their gaps (0: constant, 1: Poisson); and the latencies "
        "counted from the sending, as a closed loop would have: what they lack is the wait that it hides."
    ),
    "tokens_per_second": (
        "Tokens received from the start of the users to the end of the duration (without the drain after "
        "it), divided by that time; of completed requests and of those that the end cut."
    ),
    "tokens_per_second_per_user": (
        "The tokens after the first of all completed requests, divided by the time from their first to "
        "their last token: how fast one user's text comes once it has begun."
    ),
    "token_events_per_second": (
        "The same by events that carry text instead of tokens: less where one event brings several tokens."
    ),
    "token_events_per_second_per_user": (
        "The events after the first of all completed requests, over the time from first to last."
    ),
    "prompt_tokens": "Prompt tokens of the completed requests, by the server's usage; 0 where it sent none.",
    "tokens": (
        "Tokens of the completed requests: the server's own count (usage) where it sent one, otherwise "
        "the number of events carrying text; tokens_counted_by says how many requests were counted in "
        "which way."
    ),
    "requests": (
        "Requests of the users: completed, failed and cut. The two of the look at the target beforehand (its "
        "models, an answer of one token) are not among them."
    ),
    "completed": (
        "Requests with status 200 whose stream was well-formed and had a finish reason and [DONE]."
    ),
    "failed": (
        "Requests that ended otherwise, each under the name of its cause in errors; none of their "
        "latencies is in the figures."
    ),
    "cut": ("Requests still open when duration and drain were over: neither completed nor failed."),
    "cancelled": ("Requests whose user hung up on purpose (scenario cancel); no latency of theirs counts."),
    "slow": (
        "Requests whose user read slowly on purpose (scenario slow-readers), however they ended; no latency "
        "of theirs counts, because it is the reader's."
    ),
    "intervals": (
        "95 % intervals of figures (milliseconds; of error_rate a share), from 1,000 resamples of the run's "
        "requests, drawn with the run's seed: how far the figure of another run as long might lie. What two "
        "runs of one server differ by beyond that is not in them; realm compare takes several."
    ),
    "steady": (
        "warm_up_s is where the run became steady, found in its TTFTs (MSER-5); figures are those of the "
        "requests sent after it. Null: it never did, or 50 requests were not completed."
    ),
    "tenants": (
        "The same figures for each tenant, and Jain's fairness index of the tokens that each got: 1 is "
        "equal, 1/n all to one of n."
    ),
    "error_rate": ("failed / (completed + failed)."),
    "p50, p90, p95, p99": (
        "The smallest value that at least this share of the values does not exceed (nearest rank), from "
        "HDR histograms in microseconds with three significant digits. The mean is exact."
    ),
    "hdr": (
        "The whole histogram in HdrHistogram's V2 format (base64), in microseconds; histograms can be added."
    ),
    "calibration": (
        "What realm calibrate measured on this machine with at least as many streams a process: how far "
        "single values of TTFT and ITL were from the emitter's own record (p50, p99, milliseconds). It is "
        "the error bar of the latencies above. Null: not measured here, or not with so many streams."
    ),
    "generator": (
        "The load generator itself: CPU used (drain included), and lag_ms, how late it woke from sleeps of "
        "20 ms, which is the error of its stamps at that moment. Above "
        f"{BUSY_SHARE:.0%} of a CPU per process or {LATE_MS:g} ms of lag (p99) it may be the bottleneck: its "
        "own delay is then part of the latencies. In an open loop the "
        "same limit holds for late_ms."
    ),
}
"""Name of a figure in a result -> its definition."""
