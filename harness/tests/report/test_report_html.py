"""The HTML report: self-contained, complete, bounded, and safe from what a server says."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from realm_harness.report import Run, conformance_of
from realm_harness.report.html import MAX_PLOT_BYTES, render_html
from realm_harness.report.model import Case, Clause, WireEvent
from realm_harness.report.wire import MAX_BROKEN_CASE, MAX_OTHER_CASE, MAX_REPORT, wire_views

VOID = {"meta", "input", "img", "br", "link"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction"}
ATTACK = "</svg></style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """What a browser would find: elements with attributes, the text, and whether tags close as they open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_nothing_is_loaded_from_outside(make_run: Callable[..., Run]) -> None:
    html = render_html(make_run())
    page = Page(html)
    assert page.open == []
    references = [
        value or "" for _, attrs in page.elements for name, value in attrs.items() if name in LOADING
    ]
    assert references
    assert all(reference.startswith(("#", "data:image/svg+xml;base64,")) for reference in references)
    assert "@import" not in html
    assert "url(" not in html
    assert page.count("link") == page.count("iframe") == 0


def test_links_lead_to_ids_that_are_there_once(make_run: Callable[..., Run]) -> None:
    page = Page(render_html(make_run()))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {(attrs.get("href") or "")[1:] for tag, attrs in page.elements if tag == "a"}
    assert wanted <= set(ids)
    assert "CHAT-STREAM-008" in wanted


def test_a_failure_tells_what_why_and_how(make_run: Callable[..., Run]) -> None:
    text = Page(render_html(make_run())).text
    for part in (
        "no [DONE] was sent",
        "A stream ends with exactly one data: [DONE].",
        "OpenAI API reference",
        "Clients wait for it before they trust the answer.",
        "curl -N http://127.0.0.1:8000/v1/chat/completions",
        "closed by the server",
        "31.2",
        "Content-Type: text/event-stream",
    ):
        assert part in text


def test_figures_stand_beside_their_definitions(make_run: Callable[..., Run]) -> None:
    text = Page(render_html(make_run())).text
    assert "From the last byte of the request to the first content delta." in text
    for figure in ("112", "245", "20.0", "41.0", "151", "37.8"):
        assert figure in text
    assert "has not been calibrated" in text


def test_a_calibrated_instrument_s_error_is_said(
    make_run: Callable[..., Run], load_json: dict[str, Any]
) -> None:
    ttft, itl = ({"p50": 0.01, "p99": p99, "count": 90} for p99 in (0.41, 0.62))
    load_json["calibration"] = {"streams": 64, "ttft": ttft, "itl": itl, "trusted": True}
    text = Page(render_html(make_run(load=load_json))).text
    assert "has not been calibrated" not in text
    for part in ("with 64 streams", "0.41 ms in the time to the first token", "0.62 ms between tokens"):
        assert part in text


def test_what_was_tested_is_said(make_run: Callable[..., Run]) -> None:
    text = Page(render_html(make_run())).text
    for fact in (
        "http://127.0.0.1:8000",
        "smollm2-135m",
        "realm/0.1",
        "2026-11-23 12:00:00 UTC",
        "2 CPUs",
        "locust 2.44",
    ):
        assert fact in text


@pytest.mark.parametrize("member", ["message", "title", "chapter", "reason", "ending", "repro", "id"])
def test_a_hostile_case_stays_text(
    make_run: Callable[..., Run], conformance_json: dict[str, Any], member: str
) -> None:
    harmless = Page(render_html(make_run()))
    conformance_json["cases"][1][member] = ATTACK
    hostile = Page(render_html(make_run(conformance=conformance_json)))
    assert hostile.count("script") == harmless.count("script") == 1
    assert hostile.count("img") == harmless.count("img")
    assert not any(name.startswith("on") for _, attrs in hostile.elements for name in attrs)
    assert "<script>alert(1)</script>" in hostile.text + str(hostile.elements)


def test_a_hostile_wire_log_header_and_load_stay_text(
    make_run: Callable[..., Run], conformance_json: dict[str, Any], load_json: dict[str, Any]
) -> None:
    harmless = Page(render_html(make_run()))
    conformance_json["cases"][1]["wire"][1]["text"] = ATTACK
    conformance_json["target"]["server_header"] = ATTACK
    load_json["figures"]["errors"] = {ATTACK: 3}
    load_json["definitions"]["ttft_ms"] = ATTACK
    load_json["settings"][ATTACK] = ATTACK
    hostile = Page(render_html(make_run(conformance=conformance_json, load=load_json)))
    assert hostile.count("script") == 1
    assert hostile.count("img") == harmless.count("img")
    assert hostile.text.count("alert(1)") > 5


def test_a_hostile_plot_is_an_image_and_nothing_else(
    make_run: Callable[..., Run], load_json: dict[str, Any]
) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    load_json["plots"] = {ATTACK: svg}
    page = Page(render_html(make_run(load=load_json)))
    [image] = [attrs for tag, attrs in page.elements if tag == "img"]
    assert base64.b64decode((image["src"] or "").partition("base64,")[2]).decode() == svg
    assert page.count("svg") == 0
    assert page.count("script") == 1


def test_only_the_report_s_own_script_may_run(make_run: Callable[..., Run]) -> None:
    import hashlib

    html = render_html(make_run())
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [
        attrs["content"] or ""
        for tag, attrs in Page(html).elements
        if tag == "meta" and "http-equiv" in attrs
    ]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_without_scripts_nothing_is_hidden_but_the_filter(make_run: Callable[..., Run]) -> None:
    hidden = [attrs for _, attrs in Page(render_html(make_run())).elements if "hidden" in attrs]
    assert [attrs.get("id") for attrs in hidden] == ["filter"]


def test_a_run_with_nothing_still_makes_a_page(make_run: Callable[..., Run]) -> None:
    page = Page(render_html(make_run(conformance=None, load=None, problems=("the server never answered",))))
    assert "Incomplete" in page.text
    assert "the server never answered" in page.text
    assert page.open == []


def test_a_big_plot_is_left_out_and_said_so(make_run: Callable[..., Run], load_json: dict[str, Any]) -> None:
    load_json["plots"] = {"huge": "x" * (MAX_PLOT_BYTES + 1)}
    page = Page(render_html(make_run(load=load_json)))
    assert page.count("img") == 0
    assert "The plot huge" in page.text


def test_a_huge_run_gives_a_page_of_bounded_size(
    make_run: Callable[..., Run], conformance_json: dict[str, Any]
) -> None:
    event = {"t_ms": 1.0, "dir": "<", "text": "x" * 10_000}
    case = conformance_json["cases"][1] | {"wire": [event] * 400, "message": "y" * 1_000_000}
    conformance_json["cases"] = [case | {"id": f"CASE-{number}"} for number in range(120)]
    html = render_html(make_run(conformance=conformance_json))
    assert len(html) < 2 * MAX_REPORT
    assert "more of 400 events are left out here" in html


def _case(verdict: str, events: int, size: int) -> Case:
    wire = tuple(WireEvent(float(number), False, "z" * size) for number in range(events))
    clause = Clause("C", "S", "O")
    return Case(f"{verdict}-{events}-{size}", "t", "c", clause, "MUST", "r", verdict, "", "", "", 0.0, wire)  # type: ignore[arg-type]


def test_wire_budget_serves_failures_first() -> None:
    fine, broken = _case("ok", 1_000, 1_000), _case("failed", 1_000, 1_000)
    views = wire_views([fine, broken])
    shown = {name: sum(len(event.text) for event in view.events) for name, view in views.items()}
    assert MAX_OTHER_CASE / 2 < shown[fine.id] <= MAX_OTHER_CASE
    assert MAX_BROKEN_CASE / 2 < shown[broken.id] <= MAX_BROKEN_CASE


def test_one_byte_reads_are_not_free() -> None:
    case = _case("ok", 100_000, 1)
    assert len(wire_views([case])[case.id].events) < 1_000


def test_a_short_log_is_whole(conformance_json: dict[str, Any]) -> None:
    cases = conformance_of(conformance_json).cases
    for case, view in zip(cases, wire_views(cases).values(), strict=True):
        assert len(view.events) == len(case.wire)
        assert view.note == ""
