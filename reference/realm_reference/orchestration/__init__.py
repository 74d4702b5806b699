"""Orchestration: each request runs on its own guest instance, and this is what the guest is given."""

from realm_reference.orchestration.events import (
    End,
    Event,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    PromptScored,
    Token,
)
from realm_reference.orchestration.generation import Generation
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.orchestrator import Inexpressible, Orchestrator
from realm_reference.orchestration.request import GenerationRequest, Prompt
from realm_reference.orchestration.seats import QueueFull

__all__ = [
    "End",
    "Event",
    "Failed",
    "FailureKind",
    "FinishReason",
    "Finished",
    "Generation",
    "GenerationRequest",
    "GuestLimits",
    "Inexpressible",
    "Orchestrator",
    "Prompt",
    "PromptScored",
    "QueueFull",
    "Token",
]
