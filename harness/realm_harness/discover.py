"""Finding out how to talk to a server before the cases begin: is it there, which model, how quick is it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

from realm_harness.answers import shown
from realm_harness.case import Broken
from realm_harness.exchange import Address, Ending, Exchange, Sent, Timeouts, Unreachable
from realm_harness.target import CHAT, MODELS, Target, encode
from realm_harness.wire import Connection

COLD_SECONDS = 180.0
"""How long the first answer may take: some servers load the model then."""

SLOWEST_RATIO = 100
"""An answer of a case may take this many times as long as the warm-up's, which has few tokens."""

LEAST_SILENCE = 60.0


class TargetUnavailable(Exception):
    """The server cannot be tested; the message is one line with the remedy."""


def discover(
    url: str,
    *,
    api_key: str | None = None,
    model: str | None = None,
    timeout: float | None = None,
    websocket: str | None = None,
) -> Target:
    """Connect, find the model, warm up and scale the timeouts.

    Args:
        url: base URL, with or without `/v1`.
        model: the model to ask for; None takes the first of `/v1/models`.
        timeout: seconds of silence after which a server counts as hanging; None scales them by a warm-up.
        websocket: the URL of its WebSocket (ws:// or http://); None looks for it at the usual place.

    Raises:
        TargetUnavailable: nothing is there, or what is there is no chat server.
        ValueError: the URL is none.
    """
    address = Address.parse(url)
    cold = Timeouts(10.0, timeout or COLD_SECONDS, (timeout or COLD_SECONDS) * 3)
    elsewhere = None if websocket is None else Address.parse(re.sub("^ws", "http", websocket))
    target = Target(address, model or "", api_key, cold, websocket=elsewhere)
    target.begin_case()
    _check_connection(target)
    if model is None:
        target.model = _first_model(target)
    target.precision = _precision(target)
    _warm_up(target)  # the first one may load the model
    begun = time.monotonic()
    _warm_up(target)
    silence = timeout or max(LEAST_SILENCE, SLOWEST_RATIO * (time.monotonic() - begun))
    return replace(target, timeouts=Timeouts(10.0, silence, silence * 5))


def _check_connection(target: Target) -> None:
    try:
        Connection(target.address, target.timeouts, target.log).close()
    except Unreachable as error:
        raise TargetUnavailable(f"{error}. Is the server running, and is this its URL?") from None


def _first_model(target: Target) -> str:
    exchange = _get_models(target)
    where = f"{target.address.url}{MODELS}"
    try:
        listed = json.loads(exchange.body)["data"]
        names = [str(card["id"]) for card in listed]
    except (ValueError, KeyError, TypeError):
        raise TargetUnavailable(
            f"{where} does not list models as OpenAI does ({_said(exchange)}); name one with --model"
        ) from None
    if not names:
        raise TargetUnavailable(f"{where} lists no model; load one, or name one with --model")
    return names[0]


def _precision(target: Target) -> str | None:
    """What the model's card says of its arithmetic, which is no field of OpenAI's: many have none."""
    try:
        exchange = target.send(target.request("GET", MODELS))
        cards = {str(card["id"]): card.get("precision") for card in json.loads(exchange.body)["data"]}
    except (Broken, ValueError, KeyError, TypeError, AttributeError):
        return None
    said = cards.get(target.model)
    return said if isinstance(said, str) else None


def _get_models(target: Target) -> Exchange:
    exchange = _try(target, target.request("GET", MODELS))
    where = f"{target.address.url}{MODELS}"
    if exchange.status in (401, 403):
        remedy = "is the key right?" if target.api_key else "pass one with --api-key or REALM_API_KEY"
        raise TargetUnavailable(f"{where} asks for an API key ({exchange.status}); {remedy}")
    if exchange.media_type == "text/html":
        raise TargetUnavailable(f"{where} is a web page, not an API; is this the server's base URL?")
    if exchange.status != 200:
        raise TargetUnavailable(f"{where} answers {_said(exchange)}; name the model with --model")
    return exchange


def _warm_up(target: Target) -> None:
    for parameter in ("max_tokens", "max_completion_tokens"):
        target.cap_parameter = parameter
        body = encode(target.body("Say hello.", 8))
        exchange = _try(target, target.request("POST", CHAT, body))
        if exchange.status == 200:
            break
        if parameter == "max_completion_tokens" or "max_completion_tokens" not in exchange.body.decode(
            "utf-8", "replace"
        ):
            _refused(target, exchange)
    target.server_header = exchange.header("server")
    if exchange.media_type == "text/html":
        raise TargetUnavailable(
            f"{target.address.url} answers a chat request with a web page; is this the server's base URL?"
        )


def _refused(target: Target, exchange: Exchange) -> None:
    remedy = "check --model and --api-key"
    if exchange.status in (401, 403):
        remedy = "is the key right?" if target.api_key else "pass one with --api-key or REALM_API_KEY"
    if exchange.status == 404:
        remedy = "is this the base URL of an OpenAI-compatible server, and does it know this --model?"
    raise TargetUnavailable(
        f"a plain chat request for model '{target.model}' is refused ({_said(exchange)}); {remedy}"
    )


def _try(target: Target, request: Sent) -> Exchange:
    try:
        return target.send(request)
    except Broken as broken:
        last = target.last
        hint = (
            "the URL may be wrong (https?)"
            if last and last.ending is Ending.MALFORMED
            else "is it an LLM server?"
        )
        raise TargetUnavailable(f"{target.address.url} does not answer: {broken}; {hint}") from None


def _said(exchange: Exchange) -> str:
    return f"{exchange.status}: {shown(exchange.body.decode('utf-8', 'replace'))}"
