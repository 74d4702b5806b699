"""A look at the target before the load: is it there, which model has it, does it stream to us.

One request for the list of models and one answer of a single token. A test of 64 users against a wrong port
or without a key would tell the same, later and 64 times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from realm_loadtests.runs.tokenizer import Unmeasured, counted_by, measured
from realm_loadtests.scenarios import user_scenario
from realm_loadtests.settings import Settings
from realm_loadtests.wire.connection import Connection, Target, build_request
from realm_loadtests.wire.exchange import Timing, fetch, stream_chat
from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.websocket import Dialogue, is_websocket, stream_generate

CONNECT_KINDS = {
    "connect_refused": "start the server or correct the host and port",
    "connect_timeout": "check the host and port, or a firewall between",
    "connect_failed": "check the host and port",
    "name_not_resolved": "correct the host name",
    "tls_error": "check http:// against https:// and the certificate",
}
STATUS_REMEDIES = {
    "http_401": "give a key with --api-key or REALM_API_KEY",
    "http_403": "the key must be allowed to use this model",
    "http_404": "check the URL (its API must be under /v1) and --model",
}
RETRYABLE_4XX = frozenset({"http_408", "http_409", "http_425", "http_429"})


class TargetUnusable(Exception):
    """The target cannot be load-tested as asked; the message is one line and ends with the remedy."""


@dataclass(frozen=True)
class Preflight:
    """What the look found: the settings to use, and how the server names itself."""

    settings: Settings
    server_header: str | None


def check(settings: Settings, *, api_key: str | None) -> Preflight:
    """Look at the target; fill in `model` if it is empty, drop `include_usage` if it is refused, and learn
    what is one token if prompts have lengths.

    Raises `TargetUnusable`. A target that answers but fails (a 500, a broken stream) passes: measuring that
    is the load test's work.
    """
    if is_websocket(settings.url):
        if settings.scenario == "lengths":
            raise TargetUnusable("prompts of exact lengths need a target at http(s)://: give that URL")
        return Preflight(_try_generate(settings, api_key), None)
    target = Target.parse(settings.url)
    listing = build_request(target, "GET", "/models", api_key=api_key)
    try:
        head, body = fetch(Connection(target), listing, timeout=settings.timeout_s)
    except ExchangeFailure as failure:
        raise TargetUnusable(_sentence(settings.url, failure)) from failure
    if not settings.model:
        if head.status in (401, 403):
            refusal = ExchangeFailure(f"http_{head.status}", "the list of models is refused")
            raise TargetUnusable(_sentence(settings.url, refusal))
        settings = replace(settings, model=_first_model(settings.url, head.status, body))
    if settings.scenario == "lengths":
        settings = _learn_tokens(settings, target, api_key)
    return Preflight(_try_stream(settings, target, api_key), head.headers.get("server"))


def _learn_tokens(settings: Settings, target: Target, api_key: str | None) -> Settings:
    try:
        return measured(settings, counted_by(settings, target, api_key))
    except Unmeasured as reason:
        raise TargetUnusable(f"{settings.url}: {reason}") from None
    except ExchangeFailure as failure:
        raise TargetUnusable(_sentence(settings.url, failure)) from failure


def _first_model(url: str, status: int, body: bytes) -> str:
    try:
        document: Any = json.loads(body)
        model = document["data"][0]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        model = None
    if status != 200 or not isinstance(model, str):
        raise TargetUnusable(
            f"{url} does not list its models (/v1/models answered {status}): name one with --model, "
            "or check that this is an OpenAI-compatible server"
        )
    return model


def _try_stream(settings: Settings, target: Target, api_key: str | None) -> Settings:
    """Ask for one token; ask again without usage if the server refuses the request as it is."""
    probe = replace(settings, max_tokens=1)
    body = json.dumps(user_scenario(probe, 0, 0).next().body).encode()
    request = build_request(target, "POST", "/chat/completions", body=body, api_key=api_key)
    connection = Connection(target)
    try:
        stream_chat(connection, request, Timing(), timeout=settings.timeout_s)
    except ExchangeFailure as failure:
        if failure.kind in ("http_400", "http_422") and settings.include_usage:
            return _try_stream(replace(settings, include_usage=False), target, api_key)
        refused = failure.kind.startswith("http_4") and failure.kind not in RETRYABLE_4XX
        if refused or failure.kind in (*CONNECT_KINDS, "not_sse", "malformed_http"):
            raise TargetUnusable(_sentence(settings.url, failure)) from failure
    finally:
        connection.close()
    return settings


def _try_generate(settings: Settings, api_key: str | None) -> Settings:
    """Ask the WebSocket for its model and for one token."""
    dialogue = Dialogue(settings.url, api_key, timeout_s=settings.timeout_s)
    try:
        dialogue.ensure_open()
        if not settings.model:
            _, replies = dialogue.call("metadata", {})
            data = [reply for reply, _ in replies][-1].get("data")
            settings = replace(settings, model=str((data or {}).get("model") or ""))
        probe = replace(settings, max_tokens=1)
        stream_generate(dialogue, user_scenario(probe, 0, 0).next().body, Timing())
    except ExchangeFailure as failure:
        if failure.kind.startswith("http_5") or failure.kind in RETRYABLE_4XX:
            return settings
        raise TargetUnusable(_sentence(settings.url, failure)) from failure
    finally:
        dialogue.close()
    return settings


def _sentence(url: str, failure: ExchangeFailure) -> str:
    if remedy := CONNECT_KINDS.get(failure.kind):
        return f"{url} is not there ({failure.kind}: {failure.detail}): {remedy}"
    remedy = STATUS_REMEDIES.get(failure.kind, "check that this is an OpenAI-compatible server")
    return f"{url} cannot be tested ({failure.kind}: {failure.detail}): {remedy}"
