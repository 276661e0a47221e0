"""The kubeconfig of a pod: where its API server is and as whom, by the service account that Kubernetes mounts into it.

Written as a file, it is read, watched and renewed as any other (`credentials.py`): the kubelet writes a new token long before the old one
ends, and the file only names where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tango.errors import ConfigError

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts token and certificate."""
CONTEXT = "pod"
"""The one context of the kubeconfig."""


def service_account_kubeconfig(environment: Mapping[str, str], folder: Path = FOLDER) -> str:
    """A kubeconfig with the context `pod`. Raises: ConfigError outside of a pod, and in one without a mounted token."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    missing = [str(folder / name) for name in ("token", "ca.crt") if not (folder / name).is_file()]
    missing += [] if host and port else ["the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"]
    if missing:
        raise ConfigError(
            f"this process has no service account of a cluster (missing: {', '.join(missing)}); let its pod mount the token "
            "(automountServiceAccountToken), or give --kubeconfig and --context"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": CONTEXT, "user": {"tokenFile": str(folder / "token")}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
    }
    return json.dumps(document)
