"""What a person's kubeconfig says besides the way to the API server."""

from __future__ import annotations

import os

from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import list_kube_config_contexts

from tidegate.clients.kube_session import own_namespace
from tidegate.errors import PermanentError


def default_namespace(kubeconfig: str | None = None, context: str | None = None) -> str:
    """The namespace of the context (the current one where none is named); inside a cluster the Pod's own.

    Raises PermanentError when there is no such file or context.
    """
    chosen = kubeconfig or os.environ.get("KUBECONFIG")
    if not chosen and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return own_namespace()
    try:
        contexts, active = list_kube_config_contexts(chosen or None)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise PermanentError("NoCluster", f"no way to the API server: {error}; set KUBECONFIG") from error
    if context:
        active = next((found for found in contexts if found["name"] == context), None)
        if active is None:
            raise PermanentError(
                "NoCluster", f"no context {context!r} in the kubeconfig: see kubectl config get-contexts"
            )
    return str((active or {}).get("context", {}).get("namespace") or "default")
