"""`realm deploy kubernetes`: a Kustomize folder."""

from __future__ import annotations

from typing import Any, Final

import yaml

from realm_reference.deploy import probes
from realm_reference.deploy.container import (
    API_PORT,
    CACHE,
    OPERATIONS_PORT,
    USER,
    arguments,
    image,
)
from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.environment import read_env_file
from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.files import Rendered

Json = dict[str, Any]
_NOTE: Final = "# Written by `realm deploy kubernetes`; changes are lost.\n"
_SECRETS: Final = "/run/secrets/realm"
_LOAD_SECONDS: Final = 900
"""How long the first start may take, which downloads the model."""


def render(deployment: Deployment) -> Rendered:
    """The manifests and the kustomization that holds them together.

    Raises DeployError for what a pod cannot have: a model file or a ledger of this machine.
    """
    if deployment.model_file is not None:
        raise DeployError(
            "'model' is a file of this machine, which a pod does not see; name a known model (`realm models`)"
        )
    if deployment.ledger is not None:
        raise DeployError("'ledger' is a file, and pods have no common one; leave it out for Kubernetes")
    objects = {
        "deployment.yaml": _deployment(deployment),
        "service.yaml": _service(deployment),
        "disruption.yaml": _disruption(deployment),
    }
    if deployment.max_replicas is not None:
        objects["autoscaler.yaml"] = _autoscaler(deployment)
    files = {"kustomization.yaml": _kustomization(deployment, sorted(objects)), **objects}
    rendered = {
        name: _NOTE + yaml.safe_dump(content, sort_keys=False, width=110) for name, content in files.items()
    }
    # Kustomize reads files only from its own folder.
    for name, path in _secret_files(deployment).items():
        rendered[f"secrets/{name}"] = path.read_text("utf-8")
    if deployment.env_file is not None:
        read_env_file(deployment.env_file)
        rendered["secrets/env"] = deployment.env_file.read_text("utf-8")
    return rendered


def _secret_files(deployment: Deployment) -> Json:
    found = {"keys": deployment.keys, "tenants": deployment.tenants}
    return {name: path for name, path in found.items() if path is not None}


def _kustomization(deployment: Deployment, resources: list[str]) -> Json:
    """Generated names end in a hash of the content, so that a changed key or variable is a rolling update."""
    content: Json = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }
    secrets = []
    if files := _secret_files(deployment):
        listed = [f"{name}=secrets/{name}" for name in files]
        secrets.append({"name": f"{deployment.name}-files", "files": listed})
    if deployment.env_file is not None:
        secrets.append({"name": f"{deployment.name}-env", "envs": ["secrets/env"]})
    return {**content, "secretGenerator": secrets} if secrets else content


def _labels(deployment: Deployment) -> Json:
    return {"app.kubernetes.io/name": "realm", "app.kubernetes.io/instance": deployment.name}


def _object(api_version: str, kind: str, deployment: Deployment, spec: Json) -> Json:
    metadata = {"name": deployment.name, "labels": _labels(deployment)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _deployment(deployment: Deployment) -> Json:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(OPERATIONS_PORT),
        "prometheus.io/path": probes.METRICS,
    }
    spec: Json = {
        "selector": {"matchLabels": _labels(deployment)},
        # A new replica is ready before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": _LOAD_SECONDS + 60,
        "template": {
            "metadata": {"labels": _labels(deployment), "annotations": annotations},
            "spec": _pod(deployment),
        },
    }
    if deployment.max_replicas is None:  # otherwise the number is the autoscaler's
        spec = {"replicas": deployment.replicas, **spec}
    return _object("apps/v1", "Deployment", deployment, spec)


def _pod(deployment: Deployment) -> Json:
    volumes: list[Json] = [{"name": "cache", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    if _secret_files(deployment):
        volumes.append({"name": "files", "secret": {"secretName": f"{deployment.name}-files"}})
    return {
        "automountServiceAccountToken": False,
        # For a Service named realm-serve the variable REALM_SERVE_PORT would come with it, which is --port.
        "enableServiceLinks": False,
        # There is no preStop hook: after SIGTERM the server itself serves on while it is taken out of the
        # Service (--drain-grace), and then finishes what runs (--drain-timeout). This is both, and some more.
        "terminationGracePeriodSeconds": deployment.stop_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(deployment)],
        "volumes": volumes,
    }


def _container(deployment: Deployment) -> Json:
    mounts: list[Json] = [
        {"name": "cache", "mountPath": CACHE},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if _secret_files(deployment):
        mounts.append({"name": "files", "mountPath": _SECRETS, "readOnly": True})
    resources = {"cpu": f"{deployment.cpus:g}", "memory": deployment.memory}
    container: Json = {
        "name": "server",
        "image": image(deployment),
        "args": [_literal(word) for word in arguments(deployment, lambda name, path: f"{_SECRETS}/{name}")],
        "ports": [
            {"name": "api", "containerPort": API_PORT},
            {"name": "operations", "containerPort": OPERATIONS_PORT},
        ],
        "startupProbe": _probe(probes.READY, periodSeconds=5, failureThreshold=_LOAD_SECONDS // 5),
        "readinessProbe": _probe(probes.READY, periodSeconds=2, failureThreshold=2),
        "livenessProbe": _probe(probes.HEALTH, periodSeconds=10, failureThreshold=6),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if deployment.env:
        container["env"] = [
            {"name": name, "value": _literal(value)} for name, value in deployment.env.items()
        ]
    if deployment.env_file is not None:
        container["envFrom"] = [{"secretRef": {"name": f"{deployment.name}-env"}}]
    return container


def _literal(text: str) -> str:
    """Kubernetes would replace $(NAME)."""
    return text.replace("$(", "$$(")


def _probe(path: str, **timing: int) -> Json:
    # Longer than a server takes to find out that its engine is stuck.
    return {"httpGet": {"path": path, "port": "operations"}, "timeoutSeconds": 10, **timing}


def _service(deployment: Deployment) -> Json:
    port = {"name": "api", "port": deployment.port, "targetPort": "api"}
    return _object("v1", "Service", deployment, {"selector": _labels(deployment), "ports": [port]})


def _disruption(deployment: Deployment) -> Json:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(deployment)}}
    return _object("policy/v1", "PodDisruptionBudget", deployment, spec)


def _autoscaler(deployment: Deployment) -> Json:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name},
        "minReplicas": deployment.replicas,
        "maxReplicas": deployment.max_replicas,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
            }
        ],
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", deployment, spec)
