"""An emitter: scheduled streams and nothing else, from one thread, so that a load generator meets its own
limits first. `MockServer` can say and do far more, and is an order slower.
"""

from realm_mocks.emitter.emitter import Emitter

__all__ = ["Emitter"]
