"""The sub-commands of `realm` that this package adds; pyproject's entry points name them here."""

from realm_reference.bench_commands import bench
from realm_reference.model_commands import info, models
from realm_reference.run_command import run
from realm_reference.serve_commands import serve

__all__ = ["bench", "info", "models", "run", "serve"]
