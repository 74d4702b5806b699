"""Reading a request's JSON strictly: what two parsers could read in two ways is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from realm_reference.server.errors import ApiError, invalid


class _Refused(ValueError):
    """JSON that Python would take and the specification (RFC 8259) or our contract does not."""


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _Refused(f"the key {name[:64]!r} appears twice in one object")
        result[name] = value
    return result


def parse(raw: bytes) -> dict[str, Any]:
    """The request object in `raw`; ApiError 400 with the reason otherwise. No input makes it raise anything
    else.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
        # A lone surrogate (RFC 8259 section 8.2) has no UTF-8 form, so it could never reach the tokenizer.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise invalid(None, "The request body is not valid UTF-8.", "invalid_json") from None
    except UnicodeEncodeError:
        raise invalid(None, "The request body holds an unpaired surrogate escape.", "invalid_json") from None
    except RecursionError:
        raise invalid(None, "The request body is nested too deeply.", "invalid_json") from None
    except ValueError as error:
        raise invalid(None, f"The request body is not valid JSON: {error}.", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "The request body must be a JSON object.", "invalid_json")
    return value


async def read(request: web.Request) -> dict[str, Any]:
    """Read and parse the body: 415 for another content type, 413 past the size limit, 400 for bad JSON."""
    if request.content_type != "application/json":
        raise ApiError(
            415,
            f"Content-Type must be application/json, not {request.content_type[:64]!r}.",
            code="unsupported_media_type",
        )
    return parse(await request.read())
