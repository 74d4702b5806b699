"""Around every handler: a request id, errors in one shape, the log line, the counters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.metadata import version

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from realm_reference.server import errors
from realm_reference.server.access.limits import headers_of
from realm_reference.server.errors import ApiError
from realm_reference.server.routes.operations import OPERATIONS
from realm_reference.server.telemetry import record
from realm_reference.server.telemetry.metrics import Metrics, error_type
from realm_reference.server.telemetry.record import REQUEST_ID_HEADER, RequestRecord
from realm_reference.server.wire.sse import SlowReader

log = logging.getLogger(__name__)

# nginx's code for a client that closed the connection before its answer; never sent, only counted.
CLIENT_CLOSED = 499
SERVER_NAME = f"realm-reference/{version('realm-harness')}"


def edge(metrics: Metrics) -> Middleware:
    """The outermost middleware: what a handler raises leaves it as an error object."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        mine = record.begin(request)
        status = CLIENT_CLOSED
        try:
            response = await _answer(request, handler, mine)
            status = response.status
            return response
        except (ConnectionError, SlowReader) as gone:
            mine.finish = "slow_reader" if isinstance(gone, SlowReader) else "disconnected"
            return web.Response(status=CLIENT_CLOSED)  # aiohttp finds the connection closed and drops it
        except asyncio.CancelledError:
            mine.finish = "disconnected"
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else None
            account(metrics, mine, status, method=request.method, route=route)

    return middleware


async def _answer(request: web.Request, handler: Handler, mine: RequestRecord) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        mine.error = error.bare()
    except web.HTTPException as error:
        known = {resource.canonical for resource in request.app.router.resources()}
        mine.error = errors.from_http_exception(error, request.method, request.path[:200], known)
    except (ConnectionError, SlowReader):
        raise
    except Exception:
        log.exception("request failed", extra={"request_id": mine.request_id})
        mine.error = errors.internal(mine.request_id)
    return mine.error.response()


def refusing(metrics: Metrics) -> Callable[[ApiError], web.Response]:
    """Makes the answers to what reached no handler: with an id, counted and logged like all others."""

    def answered(error: ApiError) -> web.Response:
        mine = RequestRecord(error=error)
        response = error.response()
        response.headers[REQUEST_ID_HEADER] = mine.request_id
        response.headers["Server"] = SERVER_NAME
        _count(metrics, mine, error.status)
        log.info(
            "refused", extra={"request_id": mine.request_id, "status": error.status, "error": error.code}
        )
        return response

    return answered


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Runs before any head is sent, so that streams and errors have them too."""
    mine = record.of(request)
    response.headers[REQUEST_ID_HEADER] = mine.request_id
    response.headers["Server"] = SERVER_NAME
    response.headers.update(headers_of(mine.left))


def _count(metrics: Metrics, mine: RequestRecord, status: int) -> None:
    metrics.requests.inc()
    metrics.by_status.labels(str(status)).inc()
    metrics.duration.observe(mine.seconds())
    if mine.error is not None:
        metrics.errors.labels(error_type(mine.error)).inc()
    elif status < 400:
        metrics.success.inc()
    else:
        metrics.errors.labels("other").inc()


def account(
    metrics: Metrics, mine: RequestRecord, status: int, *, method: str | None = None, route: str | None
) -> None:
    """The end of a request: its counters, and one line in the log; never a prompt, an output or a key."""
    if mine.counted:
        _count(metrics, mine, status)
    if metrics.traces is not None and route not in OPERATIONS:
        metrics.traces.record(mine, status, method, route)
    fields = {
        "request_id": mine.request_id,
        "method": method,
        "route": route,
        "status": status,
        "tenant": mine.caller.tenant,
        "key_id": mine.caller.key_id,
        "seconds": round(mine.seconds(), 6),
        "finish": mine.finish,
        "prompt_tokens": mine.prompt_tokens,
        "completion_tokens": mine.completion_tokens,
        "queue_seconds": mine.queue_seconds,
        "ttft_seconds": mine.ttft_seconds,
        "error": mine.error.code if mine.error else None,
        "param": mine.error.param if mine.error else None,
    }
    # Probes come every few seconds; with them in it nobody finds anything in a log.
    level = logging.DEBUG if route in OPERATIONS and status < 400 else logging.INFO
    log.log(level, "request", extra={name: value for name, value in fields.items() if value is not None})
