"""The harness's own sub-commands, as the entry points name them."""

from realm_harness.conform_commands import conform
from realm_harness.prove_commands import prove
from realm_harness.score_commands import score

__all__ = ["conform", "prove", "score"]
