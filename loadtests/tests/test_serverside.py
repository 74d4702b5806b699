"""The server's own metrics beside the clients': read exactly, and believed only as far as they agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.figures.metricnames import NAMES, only_known
from realm_loadtests.figures.metricpages import History, parse
from realm_loadtests.figures.serverside import compare
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record
from realm_loadtests.records.scrapes import Scrape
from realm_loadtests.runs.scraping import metrics_url

TTFT_MS, GAP_MS, TOKENS = 20, 5, 9
BOUNDS_S = (0.01, 0.025, 0.05, 0.1)
ERROR_MS = {"ttft": 0.5, "itl": 0.5}


def histogram(name: str, seconds: list[float], labels: str = "") -> str:
    """The lines that a histogram of these values has on a page."""
    more = f",{labels}" if labels else ""
    lines = [
        f'{name}_bucket{{le="{bound}"{more}}} {sum(value <= float(bound) for value in seconds)}'
        for bound in (*map(str, BOUNDS_S), "+Inf")
    ]
    braces = f"{{{labels}}}" if labels else ""
    return "\n".join(
        [*lines, f"{name}_sum{braces} {sum(seconds)}", f"{name}_count{braces} {len(seconds)}", ""]
    )


def vllm(requests: int, ttft_s: float = TTFT_MS / 1e3, *, tokens: int = TOKENS, of: str = "vllm:") -> str:
    """A page of vLLM after so many requests, of two engines."""
    half = requests // 2
    ttft = [ttft_s] * requests
    parts = zip(("0", "1"), (ttft[:half], ttft[half:]), strict=True)
    name = f"{of}time_to_first_token_seconds"
    return (
        f"# HELP {name} Histogram.\n# TYPE {name} histogram\n"
        + "".join(histogram(name, values, f'engine="{engine}"') for engine, values in parts)
        + f'{of}generation_tokens_total{{engine="0"}} {requests * tokens}\n'
        + f'{of}request_success_total{{finished_reason="stop"}} {half}\n'
        + f'{of}request_success_total{{finished_reason="length"}} {requests - half}\n'
        + f"{of}num_requests_running 3\nunknown_thing 7\n"
    )


def clients(count: int, ttft_ms: float = TTFT_MS) -> list[Record]:
    times = [round(1000 * (ttft_ms + GAP_MS * index)) for index in range(TOKENS)]
    return [
        Record("completed", 0, times[-1], token_us=times, tokens=TOKENS, tokens_by="usage", connect_us=100)
        for _ in range(count)
    ]


def compared(records: list[Record], *pages: str) -> dict[str, Any]:
    scrapes = [Scrape(float(at), "http://s/metrics", only_known(page)) for at, page in enumerate(pages)]
    found = compare(scrapes, Measures.of(records), records, ERROR_MS)
    assert found is not None
    return found


def test_what_the_server_says_is_read_between_two_scrapes() -> None:
    found = compared(clients(10), vllm(6), vllm(16, ttft_s=TTFT_MS / 1e3))
    assert found["names"] == "vLLM"
    ttft = found["latencies"]["ttft_ms"]
    assert ttft["server"] == {"count": 10, "mean": TTFT_MS, "p50": [10, 25], "p99": [10, 25]}
    assert (ttft["clients"]["mean"], ttft["agrees"]) == (TTFT_MS, True)
    assert found["counts"]["tokens"] == {"server": 10 * TOKENS, "clients": 10 * TOKENS, "agrees": True}
    assert found["counts"]["requests"] == {"server": 10, "clients": 10, "agrees": True}
    assert [point["running"] for point in found["over_time"]] == [3, 3]
    assert found["over_time"][1] | {"running": None} == {
        "at_s": 1.0,
        "running": None,
        "waiting": None,
        "cache_share": None,
        "resident_mb": None,
    }
    assert found["findings"] == []


@pytest.mark.parametrize("claimed_ms", [4, 90])
def test_a_time_to_first_token_that_no_client_saw_is_a_finding(claimed_ms: int) -> None:
    found = compared(clients(10), vllm(0), vllm(10, ttft_s=claimed_ms / 1e3))
    assert found["latencies"]["ttft_ms"]["agrees"] is False
    assert found["latencies"]["ttft_ms"]["difference"] == TTFT_MS - claimed_ms
    (finding,) = found["findings"]
    assert f"by its metrics {claimed_ms} ms in the mean" in finding


def test_a_round_trip_and_the_instruments_error_are_no_finding() -> None:
    far = [Record(**{**vars(record), "connect_us": 30_000}) for record in clients(10, ttft_ms=TTFT_MS + 30)]
    assert compared(far, vllm(0), vllm(10))["findings"] == []
    near = clients(10, ttft_ms=TTFT_MS + 0.4)
    assert compared(near, vllm(0), vllm(10))["findings"] == []


def test_a_server_with_other_users_is_not_judged() -> None:
    found = compared(clients(10), vllm(0), vllm(40, ttft_s=0.004))
    assert found["latencies"]["ttft_ms"]["agrees"] is None
    assert found["counts"]["requests"]["agrees"] is False
    (finding,) = found["findings"]
    assert "others use it too" in finding


def test_tokens_that_were_never_sent_are_a_finding() -> None:
    found = compared(clients(10), vllm(0), vllm(10, tokens=2 * TOKENS))
    assert found["counts"]["tokens"]["agrees"] is False
    assert "generated tokens" in found["findings"][0]


def test_a_server_that_starts_again_counts_on_and_is_told() -> None:
    found = compared(clients(10), vllm(100), vllm(104), vllm(2), vllm(6))
    assert found["counts"]["tokens"]["server"] == 10 * TOKENS
    assert found["latencies"]["ttft_ms"]["server"]["count"] == 10
    assert found["findings"] == ["its counters fell 1 times: it was started again in the run"]


@pytest.mark.parametrize("pages", [(), (vllm(1),), ("", ""), ("a page", "of something else")])
def test_without_two_pages_that_are_known_there_is_nothing(pages: tuple[str, ...]) -> None:
    scrapes = [Scrape(0.0, "http://s/metrics", page) for page in pages]
    assert compare(scrapes, Measures(), [], ERROR_MS) is None


@pytest.mark.parametrize("of", ["sglang:", "sglang_"])
def test_names_are_known_in_both_spellings(of: str) -> None:
    page = only_known(vllm(4, of=of))
    assert "unknown_thing" not in page
    history = History.of([Scrape(0.0, "u", only_known(vllm(0, of=of))), Scrape(1.0, "u", page)])
    assert history is not None
    assert history.names == "SGLang"
    assert history.increase("tokens") == 4 * TOKENS


@pytest.mark.parametrize("server", sorted(NAMES))
def test_every_name_is_found_by_itself(server: str) -> None:
    for quantity, names in NAMES[server].items():
        for name in names:
            rising = [
                Scrape(float(at), "u", f"{name} {at}\n{name}_count {at}\n{name}_sum {at}\n") for at in (1, 2)
            ]
            history = History.of(rising)
            assert history is not None
            assert history.increase(quantity) == 1 or quantity in ("ttft", "itl", "e2e", "queue")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1))
def test_a_quantile_lies_between_the_bounds_that_are_told(seconds: list[float], rank: float) -> None:
    name = "vllm:time_to_first_token_seconds"
    scrapes = [Scrape(0.0, "u", histogram(name, [])), Scrape(1.0, "u", histogram(name, seconds))]
    history = History.of(scrapes)
    theirs = history.latency("ttft") if history else None
    assert theirs is not None
    low, high = theirs.quantile_ms(rank)
    exact = 1000 * sorted(seconds)[min(len(seconds) - 1, max(0, -int(-rank * len(seconds) // 1) - 1))]
    assert low <= exact <= high
    assert theirs.mean_ms == pytest.approx(1000 * sum(seconds) / len(seconds))


def test_a_page_that_is_none_has_nothing_in_it() -> None:
    assert parse('vllm:num_requests_running{a="b 3\n') == {}


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("http://h:1", "http://h:1/metrics"),
        ("https://h/v1/", "https://h/metrics"),
        ("http://h/api/v1", "http://h/api/metrics"),
        ("ws://h:1/ws", "http://h:1/metrics"),
    ],
)
def test_the_page_is_beside_the_api(url: str, page: str) -> None:
    assert metrics_url(url) == page
