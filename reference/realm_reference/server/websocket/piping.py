"""The function `pipeline`: each step is a generation like any other, and the last one streams."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from realm_reference.orchestration import Finished, Token
from realm_reference.pipelines import (
    BadInput,
    PipelineFailed,
    Step,
    StepFailed,
    Usage,
    run_pipeline,
)
from realm_reference.server.errors import ApiError, invalid
from realm_reference.server.models import Served
from realm_reference.server.service import Service
from realm_reference.server.telemetry.record import RequestRecord
from realm_reference.server.websocket.calls import RunningCall
from realm_reference.server.websocket.generating import generation, prepare
from realm_reference.server.websocket.params import PipelineParams
from realm_reference.server.websocket.protocol import Json

# What a caller may not do, it may not do in an optional step either.
_NOT_THE_STEPS = (401, 403, 429)


class Steps:
    """Generates for the steps of one call; its record has the sums, each step a record of its own."""

    def __init__(self, service: Service, record: RequestRecord) -> None:
        self._service = service
        self._record = record

    def _served(self, step: Step) -> Served:
        """What it is computed with; ApiError 404 for an adapter that there is not, 403 for another's."""
        models, tenant = self._service.models, self._record.caller.tenant
        return models.with_adapter(step.adapter, tenant) if step.adapter else models.find(None, tenant)

    async def __call__(self, step: Step, prompt: str) -> AsyncGenerator[str | Usage, None]:
        """Continue a step's prompt; StepFailed says why that did not go."""
        mine = RequestRecord(self._record.request_id, caller=self._record.caller)
        try:
            served = self._served(step)
            request = await prepare(
                self._service, mine.caller, prompt, step.sampling, chat=step.chat, exact=False
            )
            request = replace(request, adapter=served.adapter)
            async with aclosing(generation(self._service, request, mine, "pipeline")) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        yield Usage(event.prompt_tokens, event.completion_tokens, event.reason.value)
                    elif isinstance(event, Token):
                        yield event.text
        except ApiError as error:
            if error.status in _NOT_THE_STEPS:
                raise
            raise StepFailed(error.message) from error
        finally:
            self._record.prompt_tokens += mine.prompt_tokens
            self._record.completion_tokens += mine.completion_tokens
            self._record.finish = mine.finish
            self._record.ttft_seconds = self._record.ttft_seconds or mine.ttft_seconds


async def run(service: Service, asked: PipelineParams, call: RunningCall) -> Json:
    """Run the call; its result is that of `generate`, with what came of each step."""
    known = service.pipelines
    pipeline = known.get(asked.pipeline)
    if pipeline is None:
        names = ", ".join(sorted(known)) or "none"
        message = f"The pipeline '{asked.pipeline[:64]}' does not exist; this server has: {names}."
        raise ApiError(404, message, param="pipeline", code="pipeline_not_found")
    begun = time.perf_counter()
    try:
        result = await run_pipeline(pipeline, asked.input, Steps(service, call.record), call.piece)
    except BadInput as error:
        raise invalid(error.name, f"{error}.") from None
    except PipelineFailed as error:
        cause = error.__cause__.__cause__ if error.__cause__ is not None else None
        raise _failed(error, cause) from None
    return {
        "text": result.text,
        "tokens_generated": result.completion_tokens,
        "prompt_tokens": result.prompt_tokens,
        "time_ms": round((time.perf_counter() - begun) * 1e3, 3),
        "steps": [step.json() for step in result.steps],
    }


def _failed(error: PipelineFailed, cause: BaseException | None) -> ApiError:
    """The failure of a step, with the status that it had by itself."""
    param = f"steps.{error.step}"
    if isinstance(cause, ApiError):
        return ApiError(cause.status, str(error), cause.type, param, cause.code, cause.headers)
    return ApiError(400, str(error), param=param, code="step_failed")
