"""Error replies in OpenAI's shape (openapi.json, schema `Error`: all four keys are required)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ApiError(Exception):
    """A refusal that becomes an HTTP error reply.

    `param` names the request parameter at fault, `code` is a stable word for programs; either may be None.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """The JSON body that a client sees."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


def invalid(param: str | None, message: str, code: str | None = None) -> ApiError:
    """A 400 that names the parameter at fault."""
    return ApiError(400, message, param=param, code=code)


def denied() -> ApiError:
    """A 401 for a missing or wrong key."""
    return ApiError(
        401, "Missing or wrong API key", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
    )
