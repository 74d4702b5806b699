"""The sub-commands of `realm` that this package adds; pyproject's entry points name them here."""

from realm_reference.bench_commands import bench
from realm_reference.deploy_commands import deploy
from realm_reference.keys_commands import keys
from realm_reference.model_commands import info, models
from realm_reference.peers_command import peers
from realm_reference.pipeline_commands import pipeline
from realm_reference.run_command import run
from realm_reference.serve_commands import serve
from realm_reference.status_commands import logs, status
from realm_reference.usage_command import usage_command as usage

bench.add_command(peers)

__all__ = ["bench", "deploy", "info", "keys", "logs", "models", "pipeline", "run", "serve", "status", "usage"]
