"""What an operator is told when a deployment cannot be."""

from __future__ import annotations


class DeployError(Exception):
    """The deployment or its surroundings do not allow it; the message is one line with the remedy."""


class NotReady(DeployError):
    """A replica did not become ready; the message says why."""
