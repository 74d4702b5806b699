"""A proxy that breaks connections in known ways: what a network does to streams, to order and counted."""

from realm_mocks.faults.fault import KINDS, Fault, FaultError
from realm_mocks.faults.proxy import FaultProxy

__all__ = ["KINDS", "Fault", "FaultError", "FaultProxy"]
