"""`realm deploy compose`: a Docker Compose project, with HAProxy before the replicas."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from realm_reference.deploy import probes
from realm_reference.deploy.container import (
    API_PORT,
    CACHE,
    DATA,
    OPERATIONS_PORT,
    arguments,
    dockerfile,
    image,
)
from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.files import Rendered

_SERVER: Final = "server"
_FOLDER: Final = "/srv/realm"
"""Where containers have the deployment's folder. Were its files mounted one by one, a file that is replaced,
as `realm keys` replaces its, would stay the old one in there.
"""
_PROXY_IMAGE: Final = "haproxy:3.2-alpine"

# The probe goes to the operations port, requests to the API's. `timeout server` is the longest silence that a
# stream may have; a queued request waits without a byte, so it is as long as a request may take by default.
_HAPROXY: Final = """\
# Written by `realm deploy compose`; changes are lost.
global
  log stdout format raw local0

defaults
  mode http
  log global
  option dontlognull
  timeout connect 5s
  timeout client 11m
  timeout server 11m
  timeout http-request 30s

resolvers docker
  nameserver dns 127.0.0.11:53
  hold valid 5s

frontend api
  bind :{api}
  default_backend replicas

backend replicas
  balance leastconn
  option redispatch
  retries 3
  option httpchk GET {ready}
  default-server check port {operations} inter 2s resolvers docker init-addr none
  server-template replica {replicas} {server}:{api}
"""


def render(deployment: Deployment) -> Rendered:
    """compose.yaml, the proxy's configuration and the Dockerfile."""
    proxy = _HAPROXY.format(
        api=API_PORT,
        ready=probes.READY,
        replicas=deployment.replicas,
        server=_SERVER,
        operations=OPERATIONS_PORT,
    )
    project = "# Written by `realm deploy compose`; changes are lost.\n" + yaml.safe_dump(
        _literal(_project(deployment)), sort_keys=False, width=110
    )
    return {"compose.yaml": project, "haproxy.cfg": proxy, "Dockerfile": dockerfile()}


def _literal(value: Any) -> Any:
    """The same with every $ doubled, which would begin a variable of Compose's own."""
    if isinstance(value, dict):
        return {name: _literal(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _project(deployment: Deployment) -> dict[str, Any]:
    return {
        "name": deployment.name,
        "services": {_SERVER: _server(deployment), "proxy": _proxy(deployment)},
        "volumes": {"models": {}, **({"data": {}} if deployment.ledger else {})},
    }


def _inside(deployment: Deployment, name: str, path: Path) -> str:
    """Where a container sees a file of the deployment's folder."""
    try:
        relative = path.resolve().relative_to(deployment.folder)
    except ValueError:
        raise DeployError(
            f"'{name}' names {path}, and containers see only {deployment.folder}; move it there"
        ) from None
    return f"{_FOLDER}/{relative.as_posix()}"


def _server(deployment: Deployment) -> dict[str, Any]:
    folder = {"type": "bind", "source": str(deployment.folder), "target": _FOLDER, "read_only": True}
    volumes: list[Any] = [folder, f"models:{CACHE}"]
    if deployment.ledger is not None:
        volumes.append(f"data:{DATA}")
    service: dict[str, Any] = {
        "image": image(deployment),
        "build": {"context": ".", "dockerfile": "Dockerfile"},
        "command": arguments(deployment, partial(_inside, deployment)),
        "working_dir": _FOLDER,
        "volumes": volumes,
        "healthcheck": _healthcheck(),
        "stop_grace_period": f"{deployment.stop_seconds}s",
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {
            "replicas": deployment.replicas,
            "resources": {
                "limits": {
                    "cpus": f"{deployment.cpus:g}",
                    "memory": deployment.memory.removesuffix("i").lower(),
                }
            },
        },
    }
    if deployment.env:
        service["environment"] = dict(deployment.env)
    if deployment.env_file is not None:
        service["env_file"] = [str(deployment.env_file)]
    return service


def _healthcheck() -> dict[str, Any]:
    url = f"http://127.0.0.1:{OPERATIONS_PORT}{probes.READY}"
    ask = f"import urllib.request; urllib.request.urlopen('{url}', timeout=9)"
    return {
        "test": ["CMD", "python", "-c", ask],
        "interval": "10s",
        "timeout": "10s",
        "retries": 3,
        "start_period": "10m",  # the first start downloads the model
        "start_interval": "2s",
    }


def _proxy(deployment: Deployment) -> dict[str, Any]:
    return {
        "image": _PROXY_IMAGE,
        "ports": [f"{deployment.host}:{deployment.port}:{API_PORT}"],
        "volumes": ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"],
        "depends_on": {_SERVER: {"condition": "service_healthy"}},
        "restart": "unless-stopped",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
