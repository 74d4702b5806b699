"""What a client is told when something is wrong: one object, the right status, never a traceback.

The body is always ``{"error": {"message", "type", "param", "code"}}`` with all four keys (OpenAI's
``Error`` schema). The status says whether a client may try again: 4xx is the request's fault, 429/503/504
are worth a retry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

INVALID_REQUEST: Final = "invalid_request_error"
AUTHENTICATION: Final = "authentication_error"
SERVER: Final = "server_error"
UNAVAILABLE: Final = "service_unavailable_error"


@dataclass(eq=False)
class ApiError(Exception):
    """A failure with its place in the contract: status, type, the parameter at fault, a stable code."""

    status: int
    message: str
    type: str = INVALID_REQUEST
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    """The connection is of no more use: what follows on it cannot be told from what was refused."""

    def body(self) -> dict[str, dict[str, str | None]]:
        """The error object as it goes over the wire, in a response body or in an SSE event."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def bare(self) -> ApiError:
        """Itself without the frames that it went through, which would keep a request's body with them until
        the next collection of garbage.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def response(self) -> web.Response:
        """The whole HTTP response; JSON even when a stream had been asked for."""
        response = web.Response(
            status=self.status,
            # A message may quote a path with bytes that are no text.
            body=json.dumps(self.body(), ensure_ascii=False).encode("utf-8", "replace"),
            content_type="application/json",
            headers=dict(self.headers),
        )
        if self.close:
            response.force_close()
            response.headers["Connection"] = "close"
        return response


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400: the value of `param` is not acceptable."""
    return ApiError(400, message, param=param, code=code)


def unprocessable(param: str, message: str, code: str) -> ApiError:
    """422: `param` is well-formed and known, and what it asks for cannot be made of it here."""
    return ApiError(422, message, param=param, code=code)


def unsupported(param: str, message: str) -> ApiError:
    """400: `param` is known, and this server does not do it; said aloud, because silence would change the
    output.
    """
    return ApiError(400, message, param=param, code="unsupported_parameter")


def unauthorized(message: str) -> ApiError:
    """401: no key, a wrong key, or a header that is not a Bearer token."""
    return ApiError(
        401,
        message,
        type=AUTHENTICATION,
        code="invalid_api_key",
        headers={"WWW-Authenticate": 'Bearer realm="realm"'},
    )


def overloaded(message: str, retry_after_seconds: int) -> ApiError:
    """503 with Retry-After: the queue is full or the server is draining."""
    return ApiError(
        503,
        message,
        type=UNAVAILABLE,
        code="overloaded",
        headers={"Retry-After": str(retry_after_seconds)},
    )


def internal(request_id: str) -> ApiError:
    """500: our fault; the details are in the log under the request's id, not in the answer."""
    return ApiError(
        500,
        f"Internal error; the server's log has it under request id {request_id}.",
        SERVER,
        code="internal_error",
    )


_HTTP_CODES: Final = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}


def _meant(path: str, known: Collection[str]) -> str:
    """A hint at the path that was meant: of a client whose base URL lacks `/v1`, or has it twice."""
    bare = "/" + path.strip("/")
    near = (bare, f"/v1{bare}", bare.removeprefix("/v1"))
    return next((f" Did you mean {other}?" for other in near if other in known), "")


def from_http_exception(
    error: web.HTTPException, method: str, path: str, known: Collection[str] = ()
) -> ApiError:
    """aiohttp's own refusals (no such route, wrong method, body too large) in our shape, with their
    headers. `known` are the paths that there are.
    """
    messages = {
        404: f"Unknown request URL: {method} {path}.{_meant(path, known)}",
        405: f"Method {method} is not allowed for {path}.",
        413: "The request body is larger than this server accepts.",
    }
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return ApiError(
        error.status,
        messages.get(error.status, error.reason or "The request was refused."),
        type=INVALID_REQUEST if error.status < 500 else SERVER,
        code=_HTTP_CODES.get(error.status, "http_error"),
        headers=headers,
    )
