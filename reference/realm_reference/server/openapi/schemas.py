"""What the server's answers look like, in JSON Schema: the components of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Json = dict[str, Any]

_STRING: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer", "minimum": 0}
_MAYBE_STRING: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": "number"}


def _object(properties: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Json:
    """An object with exactly these keys; those of `optional` may be absent."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Mapping[str, Any]) -> Json:
    return {"type": "array", "items": items}


def _maybe(schema: Mapping[str, Any]) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Json:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


_FINISH: Final = {"enum": ["stop", "length", "tool_calls"]}
_SCORED: Final = {
    "token": _STRING,
    "logprob": {"type": "number", "maximum": 0},
    "bytes": _maybe(_array({"type": "integer", "minimum": 0, "maximum": 255})),
}
_LOGPROBS: Final = _object(
    {
        "content": _maybe(_array(_object({**_SCORED, "top_logprobs": _array(_object(_SCORED))}))),
        "refusal": {"type": "null"},
    }
)
_TOOL_CALL: Final = _object(
    {
        "id": _STRING,
        "type": {"const": "function"},
        "function": _object({"name": _STRING, "arguments": _STRING}),
    }
)
_TOOL_CALL_DELTA: Final = _object(
    {"index": _INTEGER},
    {
        "id": _STRING,
        "type": {"const": "function"},
        "function": _object({}, {"name": _STRING, "arguments": _STRING}),
    },
)
_MESSAGE: Final = _object(
    {"role": {"const": "assistant"}, "content": _MAYBE_STRING, "refusal": {"type": "null"}},
    {"tool_calls": _array(_TOOL_CALL)},
)
_DELTA: Final = _object(
    {},
    {"role": {"const": "assistant"}, "content": _MAYBE_STRING, "tool_calls": _array(_TOOL_CALL_DELTA)},
)


def _head(kind: str) -> Json:
    return {
        "id": _STRING,
        "object": {"const": kind},
        "created": _INTEGER,
        "model": _STRING,
        "system_fingerprint": _STRING,
    }


_TEXT_LOGPROBS: Final = _object(
    {
        "tokens": _array(_STRING),
        "token_logprobs": _array({"type": ["number", "null"], "maximum": 0}),
        "top_logprobs": _array({"type": ["object", "null"], "additionalProperties": _NUMBER}),
        "text_offset": _array(_INTEGER),
    }
)


def _choice(
    part: str, content: Mapping[str, Any], finish: Mapping[str, Any], logprobs: Mapping[str, Any] = _LOGPROBS
) -> Json:
    return _object({"index": _INTEGER, part: content, "logprobs": _maybe(logprobs), "finish_reason": finish})


SCHEMAS: Final[Mapping[str, Json]] = {
    "Error": _object(
        {
            "error": _object(
                {"message": _STRING, "type": _STRING, "param": _MAYBE_STRING, "code": _MAYBE_STRING}
            )
        }
    ),
    "Usage": _object({"prompt_tokens": _INTEGER, "completion_tokens": _INTEGER, "total_tokens": _INTEGER}),
    "ChatCompletion": _object(
        {
            **_head("chat.completion"),
            "choices": _array(_choice("message", _MESSAGE, _FINISH)),
            "usage": ref("Usage"),
        }
    ),
    "ChatCompletionChunk": _object(
        {
            **_head("chat.completion.chunk"),
            "choices": _array(_choice("delta", _DELTA, _maybe(_FINISH))),
        },
        {"usage": _maybe(ref("Usage"))},
    ),
    "Completion": _object(
        {
            **_head("text_completion"),
            "choices": _array(_choice("text", _STRING, _maybe(_FINISH), _TEXT_LOGPROBS)),
        },
        {"usage": _maybe(ref("Usage"))},
    ),
    "Model": _object(
        {
            "id": _STRING,
            "object": {"const": "model"},
            "created": _INTEGER,
            "owned_by": _STRING,
            "context_length": _INTEGER,
            "licence": _MAYBE_STRING,
            "fingerprint": _STRING,
            "precision": _STRING,
        }
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": _array(ref("Model"))}),
    "TenantUsage": _object(
        {
            "object": {"const": "usage"},
            "tenant": _STRING,
            "since": _INTEGER,
            "requests": _INTEGER,
            "prompt_tokens": _INTEGER,
            "completion_tokens": _INTEGER,
            "total_tokens": _INTEGER,
            "limits": _object(
                {
                    "requests_per_minute": _maybe(_INTEGER),
                    "requests_burst": _maybe(_INTEGER),
                    "tokens_per_minute": _maybe(_INTEGER),
                    "concurrency": _maybe(_INTEGER),
                    "context": _maybe(_INTEGER),
                    "tokens_per_day": _maybe(_INTEGER),
                }
            ),
        }
    ),
    "Tokens": _object(
        {
            "tokens": _array(_INTEGER),
            "count": _INTEGER,
            "max_model_len": _INTEGER,
            "token_strs": _maybe(_array(_STRING)),
        }
    ),
    "Text": _object({"prompt": _STRING}),
    "Health": _object({"status": {"const": "ok"}, "version": _STRING}),
    "Ready": _object(
        {
            "status": {"enum": ["ready", "not ready"]},
            "model": _STRING,
            "fingerprint": _STRING,
            "precision": _STRING,
            "guest_abi": _INTEGER,
            "version": _STRING,
            "running": _INTEGER,
            "waiting": _INTEGER,
        },
        {"reason": _STRING},
    ),
}
"""All components, by name."""
