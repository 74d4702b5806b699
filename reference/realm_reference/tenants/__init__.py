"""Who asks, what it may use, and what it has used. Knows no HTTP and no model: counts and names only."""

from realm_reference.tenants.caller import ANONYMOUS, Caller
from realm_reference.tenants.lease import Job, Lease, Outcome, Status, Timings

__all__ = ["ANONYMOUS", "Caller", "Job", "Lease", "Outcome", "Status", "Timings"]
