"""The engine: sessions with their own KV caches, and the one loop that runs the model for all."""

from realm_reference.engine.census import CacheUse
from realm_reference.engine.engine import Engine
from realm_reference.engine.loop import EngineCounters, StepRecord
from realm_reference.engine.session import Session

__all__ = ["CacheUse", "Engine", "EngineCounters", "Session", "StepRecord"]
