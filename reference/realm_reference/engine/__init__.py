"""The engine: sessions with their own KV caches, and the one loop that runs the model for all."""

from realm_reference.engine.census import CacheUse
from realm_reference.engine.engine import Engine
from realm_reference.engine.loop import EngineCounters
from realm_reference.engine.session import Session
from realm_reference.engine.work import StepRecord

__all__ = ["CacheUse", "Engine", "EngineCounters", "Session", "StepRecord"]
