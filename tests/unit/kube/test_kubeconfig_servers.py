"""Where a kubeconfig's token goes: to the server that it names, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.errors import ConfigError
from tango.kube.credentials import Credentials


def kubeconfig(folder: Path, server: str, user: dict[str, Any]) -> str:
    """Of one context, `it`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "me"}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.mark.parametrize(
    "server",
    [
        "edge-1.example:6443",
        "edge-1.example",
        "//edge-1:6443",
        "ftp://edge-1",
        "https://",
        "https:///x",
        "https://edge-1:x",
        "localhost",
    ],
)
async def test_a_server_without_a_scheme_gets_no_token(tmp_path: Path, server: str) -> None:
    """A parser of URLs takes `edge-1:6443` for a scheme, and what it finds no host in would be localhost."""
    with pytest.raises(ConfigError, match=r"context 'it': .*(expected https://HOST:PORT|server|[Pp]ort)"):
        await Credentials(kubeconfig(tmp_path, server, {"token": "secret"}), "it").load()


async def test_a_token_does_not_go_over_a_network_in_the_clear(tmp_path: Path) -> None:
    """To this machine it may: embedded API servers speak plain HTTP there. Without a token there is nothing to be read."""
    with pytest.raises(ConfigError, match="its token would go to 'http://edge-1:8080' in the clear"):
        await Credentials(kubeconfig(tmp_path, "http://edge-1:8080", {"token": "secret"}), "it").load()

    here = await Credentials(kubeconfig(tmp_path, "http://127.0.0.1:8080", {"token": "secret"}), "it").load()
    proxied = await Credentials(kubeconfig(tmp_path, "http://edge-1:8080", {}), "it").load()
    assert (here.origin.host, here.origin.port, proxied.authorization) == ("127.0.0.1", 8080, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nonexistent"], "failed"),
        (["/bin/false"], "failed"),
        (["/bin/echo", "no json"], "failed"),
        (["/bin/echo", "{}"], "failed|gave neither"),
    ],
)
async def test_a_plugin_that_fails_ends_the_join(tmp_path: Path, command: list[str], said: str) -> None:
    """The library logs that and goes on as nobody; here it is an error that names the plug-in."""
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command[0],
        "args": command[1:],
        "interactiveMode": "Never",
    }

    with pytest.raises(ConfigError, match=f"its plug-in '{command[0]}' ({said})"):
        await Credentials(kubeconfig(tmp_path, "https://edge-1:6443", {"exec": plugin}), "it").load()
