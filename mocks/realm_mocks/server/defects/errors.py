"""Defects of refusals: what is refused, with which status, in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.errors import ApiError
from realm_mocks.server.replies import Reply
from realm_mocks.server.request import CHECKS
from realm_mocks.server.variation import Variation, bearer

ReplyHook = Callable[[str, Reply], Reply]


def _refusals(bend: Callable[[Reply, dict[str, Any]], Reply], *, chat_only: bool = True) -> ReplyHook:
    """A hook for replies that carry an error object; `bend` gets the object too."""

    def reply_hook(path: str, reply: Reply) -> Reply:
        refused = reply.status >= 400 and isinstance(reply.body, dict)
        if not refused or (chat_only and not path.endswith("/completions")):
            return reply
        return bend(reply, reply.body["error"])

    return reply_hook


def _plain_text(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, body=str(error["message"]).encode(), content_type="text/plain; charset=utf-8")


def _empty(reply: Reply, _: dict[str, Any]) -> Reply:
    return replace(reply, body=b"")


def _flat(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, body={"error": error["message"], "error_type": error["type"]})


def _two_keys(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, body={"error": {"message": error["message"], "code": reply.status}})


def _anonymous(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, body={"error": {**error, "message": "Bad request", "param": None}})


def _as_200(reply: Reply, _: dict[str, Any]) -> Reply:
    return replace(reply, status=200) if reply.status == 400 else reply


def _always_500(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, status=500, body={"error": {**error, "type": "server_error"}})


def _malformed_500(reply: Reply, error: dict[str, Any]) -> Reply:
    return _always_500(reply, error) if "not valid JSON" in error["message"] else reply


def _too_long_500(reply: Reply, error: dict[str, Any]) -> Reply:
    return _always_500(reply, error) if error["code"] == "context_length_exceeded" else reply


def _too_long_retryable(reply: Reply, error: dict[str, Any]) -> Reply:
    return replace(reply, status=429) if error["code"] == "context_length_exceeded" else reply


def _home_page(path: str, reply: Reply) -> Reply:
    page = b"<!doctype html><title>Playground</title><p>Welcome"
    return (
        Reply(200, page, content_type="text/html")
        if reply.status == 404 and "completions" not in path
        else reply
    )


def _any_method(path: str, reply: Reply) -> Reply:
    return replace(reply, status=200, headers={}) if reply.status == 405 else reply


def _unknown_field_fatal(raw: bytes) -> bytes:
    try:
        body = json.loads(raw)
    except ValueError:
        return raw
    unknown = set(body) - set(CHECKS) - {"model"} if isinstance(body, dict) else set()
    if unknown:
        raise ApiError(500, f"unexpected keyword argument '{min(unknown)}'", type="server_error")
    return raw


def _bearer_only_if_bearer(header: str | None, key: str) -> bool:
    """Another scheme than Bearer skips the check altogether."""
    return bearer(header, key) or (header is not None and not header.startswith("Bearer "))


def _prefix_is_enough(header: str | None, key: str) -> bool:
    return bearer(header, key) or (header or "").startswith("Bearer ")


def _bad_request(_: str | None, error: ApiError) -> ApiError:
    return ApiError(400, error.message, code=error.code)


DEFECTS = (
    Variation("error-plain-text", "errors are plain text", "realm-defects 22", reply=_refusals(_plain_text)),
    Variation("error-empty", "errors have no body", "realm-defects 22", reply=_refusals(_empty)),
    Variation(
        "error-flat",
        'errors are {"error": "text"}',
        "text-generation-inference's flat error",
        reply=_refusals(_flat),
    ),
    Variation(
        "error-two-keys",
        "the error object has no type and no param",
        "llama.cpp's error object",
        reply=_refusals(_two_keys),
    ),
    Variation(
        "error-anonymous",
        "the error does not say which parameter is wrong",
        "clause: errors name the parameter",
        reply=_refusals(_anonymous),
    ),
    Variation(
        "error-as-200",
        "a refusal comes with status 200",
        "ggml-org/llama.cpp#16486, lmstudio-bug-tracker#2322",
        reply=_refusals(_as_200),
    ),
    Variation(
        "error-500", "every client error is a 500", "sgl-project/sglang#3579", reply=_refusals(_always_500)
    ),
    Variation(
        "malformed-500",
        "malformed JSON is a 500",
        "clause: 500 never comes from client input",
        reply=_refusals(_malformed_500),
    ),
    Variation(
        "overlong-500",
        "an over-long prompt is a 500",
        "ggml-org/llama.cpp#19774, ardanlabs/kronk#861",
        reply=_refusals(_too_long_500),
    ),
    Variation(
        "overlong-429",
        "an over-long prompt is a 429, which clients retry",
        "openai-python retries 429",
        reply=_refusals(_too_long_retryable),
    ),
    Variation(
        "empty-messages-accepted",
        "an empty message list is answered",
        "letta-ai/letta#3381, realm-defects 16",
        unchecked=frozenset({"messages"}),
    ),
    Variation(
        "types-unchecked",
        "no parameter is checked",
        "realm-defects 40: accepted and ignored",
        unchecked=frozenset(CHECKS) - {"messages"},
    ),
    Variation(
        "temperature-unchecked",
        "any temperature is taken",
        "openapi: 0 to 2",
        unchecked=frozenset({"temperature"}),
    ),
    Variation("top-p-unchecked", "any top_p is taken", "openapi: 0 to 1", unchecked=frozenset({"top_p"})),
    Variation("n-unchecked", "any n is taken", "openapi: 1 to 128", unchecked=frozenset({"n"})),
    Variation(
        "stop-unchecked",
        "a stop of any type is taken",
        "openapi: string or array",
        unchecked=frozenset({"stop"}),
    ),
    Variation(
        "stream-unchecked",
        "a stream flag of any type is taken",
        "realm-defects 32: stream ignored",
        unchecked=frozenset({"stream"}),
    ),
    Variation(
        "max-tokens-unchecked",
        "max_tokens of any type is taken",
        "openapi: integer",
        unchecked=frozenset({"max_tokens"}),
    ),
    Variation(
        "unknown-field-500",
        "an unknown field is a 500",
        "a **kwargs call without a net",
        body=_unknown_field_fatal,
    ),
    Variation(
        "unknown-model-accepted",
        "unknown models are answered",
        "realm-defects 24",
        unchecked=frozenset({"model"}),
    ),
    Variation(
        "unknown-route-page",
        "unknown routes answer 200 with a web page",
        "a single-page playground's fallback",
        reply=_home_page,
    ),
    Variation(
        "any-method", "a wrong method is answered with 200", "RFC 9110 section 15.5.6", reply=_any_method
    ),
    Variation(
        "auth-other-scheme",
        "an Authorization that is not Bearer skips the check",
        "realm-defects 20",
        authorized=_bearer_only_if_bearer,
    ),
    Variation(
        "auth-400",
        "a missing or wrong key is a 400",
        "a check of values that comes first",
        denied=_bad_request,
    ),
    Variation("auth-any-key", "any key is taken", "realm-defects 20", authorized=_prefix_is_enough),
)
