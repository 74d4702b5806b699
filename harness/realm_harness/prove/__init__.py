"""`realm prove`: the main job, end to end."""

from realm_harness.prove.options import DEFAULT_MODEL, KEY_VARIABLE, Options
from realm_harness.prove.parts import PartFailed
from realm_harness.prove.run import prove
from realm_harness.prove.target import TargetUnusable

__all__ = ["DEFAULT_MODEL", "KEY_VARIABLE", "Options", "PartFailed", "TargetUnusable", "prove"]
