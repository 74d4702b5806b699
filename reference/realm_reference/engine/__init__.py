"""The engine: sessions over one KV cache in pages, and the one loop that runs the model for all.

To be read in this order: pages, sequence, work, fairqueue, scheduler, loop, caller, session, layers,
adapters, engine.
"""

from realm_reference.engine.engine import CACHE_BYTES, CacheUse, Engine
from realm_reference.engine.layers import LayerSession
from realm_reference.engine.session import Session
from realm_reference.engine.work import EngineCounters, StepRecord

__all__ = ["CACHE_BYTES", "CacheUse", "Engine", "EngineCounters", "LayerSession", "Session", "StepRecord"]
