"""The harness's own sub-commands, as the entry points name them."""

from realm_harness.conform_commands import conform, score
from realm_harness.prove_commands import prove

__all__ = ["conform", "prove", "score"]
