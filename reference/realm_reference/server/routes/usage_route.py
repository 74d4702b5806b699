"""GET /v1/tenants/{tenant}/usage: what a tenant has used today, for its own keys alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Final

from aiohttp import web

from realm_reference.server.errors import ApiError
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.tenants.gate import DAY_SECONDS
from realm_reference.tenants.usage import Period, usage

PATH: Final = "/v1/tenants/{tenant}/usage"
_COUNTED: Final = ("requests", "prompt_tokens", "completion_tokens", "total_tokens")


class UsageHandler:
    """Reads the ledger; what was used since midnight, UTC."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.Response:
        """``{object, tenant, since, requests, prompt_tokens, completion_tokens, total_tokens, limits}``."""
        caller, tenant = record.of(request).caller, request.match_info["tenant"]
        if tenant != caller.tenant:
            message = f"The key is of the tenant '{caller.tenant}', which may not see another's usage."
            raise ApiError(403, message, type="permission_error", param="tenant", code="wrong_tenant")
        admission = self._service.admission
        if admission.ledger is None:
            raise ApiError(404, "This server keeps no ledger.", code="no_ledger")
        midnight = time.time() // DAY_SECONDS * DAY_SECONDS
        period = Period(since=midnight, tenant=tenant)
        rows = await asyncio.to_thread(usage, admission.ledger.path, period, "tenant")
        used = rows[0] if rows else {}
        limits = asdict(admission.policy(tenant))
        limits.pop("guest")  # a path of the server's
        limits["adapters"] = sorted(limits["adapters"])
        return web.json_response(
            {
                "object": "usage",
                "tenant": tenant,
                "since": int(midnight),
                **{name: used.get(name, 0) for name in _COUNTED},
                "limits": limits,
            }
        )
