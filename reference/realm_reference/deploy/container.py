"""What Compose and Kubernetes have in common: the image, and where things lie inside a container."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from realm_reference.deploy.arguments import serve_arguments
from realm_reference.deploy.deployment import Deployment

API_PORT: Final = 8080
OPERATIONS_PORT: Final = 9090
USER: Final = 10001
CACHE: Final = "/var/cache/realm"
DATA: Final = "/var/lib/realm"
COMMAND: Final = ("realm", "serve")

_DOCKERFILE: Final = """\
# Written by `realm deploy`; changes are lost.
FROM python:3.13-slim
RUN pip install --no-cache-dir "realm-harness[reference]=={version}" \\
 && useradd --system --uid {user} --no-create-home realm \\
 && install --directory --owner {user} {cache} {data}
USER {user}
ENV REALM_CACHE={cache} PYTHONUNBUFFERED=1
EXPOSE {api} {operations}
ENTRYPOINT ["realm", "serve"]
"""


def image(deployment: Deployment) -> str:
    """The image that containers run."""
    return deployment.image or f"realm-harness:{version('realm-harness')}"


def dockerfile() -> str:
    """The image's recipe: this version of the server and nothing else."""
    return _DOCKERFILE.format(
        version=version("realm-harness"),
        user=USER,
        cache=CACHE,
        data=DATA,
        api=API_PORT,
        operations=OPERATIONS_PORT,
    )


def arguments(deployment: Deployment, place: Callable[[str, Path], str]) -> list[str]:
    """The arguments of `realm serve` in a container, where `place` says which path a file has there: it gets
    the name of the setting, and the file's path on this machine.
    """

    def placed(name: str, path: Path | None) -> str | None:
        return None if path is None else place(name, path)

    return serve_arguments(
        deployment,
        model=placed("model", deployment.model_file) or deployment.model,
        # Inside of a container this is the container's own network, not the machine's.
        listen=("--host", "0.0.0.0", "--http-port", str(API_PORT), "--metrics-port", str(OPERATIONS_PORT)),
        keys=placed("keys", deployment.keys),
        tenants=placed("tenants", deployment.tenants),
        ledger=f"{DATA}/{deployment.ledger.name}" if deployment.ledger else None,
    )
