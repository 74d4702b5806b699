"""What Compose and Kubernetes have in common: the image, and where things lie inside a container."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from realm_reference.deploy.arguments import serve_arguments
from realm_reference.deploy.deployment import Deployment

API_PORT: Final = 8080
OPERATIONS_PORT: Final = 9090
USER: Final = 10001
CACHE: Final = "/var/cache/realm"
DATA: Final = "/var/lib/realm"
SECRETS: Final = "/run/secrets"
"""Where files with secrets are mounted; Docker's own place for them."""
MODELS: Final = "/models"
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


def arguments(deployment: Deployment) -> list[str]:
    """The arguments of `realm serve` in a container."""
    file = deployment.model_file
    return serve_arguments(
        deployment,
        model=deployment.model if file is None else f"{MODELS}/{file.name}",
        # Inside of a container this is the container's own network, not the machine's.
        listen=("--host", "0.0.0.0", "--http-port", str(API_PORT), "--metrics-port", str(OPERATIONS_PORT)),
        keys=f"{SECRETS}/keys" if deployment.keys else None,
        tenants=f"{SECRETS}/tenants" if deployment.tenants else None,
        ledger=f"{DATA}/{deployment.ledger.name}" if deployment.ledger else None,
    )
