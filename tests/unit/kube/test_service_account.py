"""The kubeconfig of a pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trustme

from tango.errors import ConfigError
from tango.kube.credentials import Credentials, current_context
from tango.kube.service_account import CONTEXT, service_account_kubeconfig

VARIABLES = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


async def test_a_pod_calls_its_api_server_by_the_mounted_token(tmp_path: Path) -> None:
    """As Kubernetes gives them: an address, perhaps of version 6, a certificate, and a token that is renewed in its file."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(service_account_kubeconfig(VARIABLES, tmp_path))
    credentials = Credentials(str(kubeconfig), CONTEXT)

    access = await credentials.load()
    (tmp_path / "token").write_text("second one")

    assert (access.base, access.origin.host, access.origin.port) == ("https://[fd00::1]:443", "fd00::1", 443)
    assert access.authorization == "Bearer first"
    assert credentials.has_changed()
    assert (await credentials.load()).authorization == "Bearer second one"
    assert "first" not in json.dumps(json.loads(kubeconfig.read_text()))


def test_a_process_that_is_no_pod_is_told_what_is_missing(tmp_path: Path) -> None:
    """Variables, or the files of the mount."""
    with pytest.raises(ConfigError, match=r"token, .*ca\.crt, the variables KUBERNETES_SERVICE_HOST.*--kubeconfig"):
        service_account_kubeconfig({}, tmp_path)


def test_a_kubeconfig_may_name_its_context_itself(tmp_path: Path) -> None:
    """One that does not, or that is no kubeconfig, is refused with what to do."""
    file = tmp_path / "kubeconfig"
    file.write_text("current-context: edge")
    assert current_context(str(file)) == "edge"

    for text, said in (("contexts: []", "--context"), ("- a", "--context"), ("{", "while parsing")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            current_context(str(file))
    with pytest.raises(ConfigError, match="No such file"):
        current_context(str(tmp_path / "none"))
