"""Where a kubeconfig's token goes: to the server that it names, or nowhere. What is malformed is refused by name."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.errors import ConfigError
from tango.kube.credentials import Credentials, current_context
from tango.kube.kubeconfig_file import token_ends_at_s


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
        "http://::1:46446",
        "https://edge-1:6443/a b",
        "https://edge-1:6443/?q=1",
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


async def test_whom_a_server_s_url_names_is_neither_left_out_nor_shown(tmp_path: Path) -> None:
    """It would not be sent."""
    with pytest.raises(ConfigError, match="its server has a user or password in it") as refused:
        await Credentials(kubeconfig(tmp_path, "https://ann:s3cret@edge-1:6443", {}), "it").load()
    assert "s3cret" not in str(refused.value)


WITHOUT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"insecure-skip-tls-verify": "false"}, {}, "insecure-skip-tls-verify is text, expected true or false"),
    ({"tls-server-name": True}, {}, "tls-server-name is true or false, expected text"),
    ({"tls-server-name": "https://edge-1"}, {}, "expected a name or an address"),
    ({"proxy-url": 8080}, {}, "proxy-url is a number, expected text"),
    ({"proxy-url": "socks5://proxy:1080"}, {}, "expected http://HOST:PORT"),
    ({"certificate-authority": "ca\0.pem"}, {}, "a line break or a control character"),
    ({"certificate-authority-data": "no base64"}, {}, "context 'it'"),
    ({}, {"token": 123456}, r"token is a number, expected text \(put it in quotes\)"),
    ({}, {"token": "s3\ncret"}, "a line break or a control character"),
    ({}, {"token": "s3crét"}, "that no token has"),
    ({}, {"tokenFile": ["token"]}, "tokenFile is a list, expected text"),
    ({}, {"as": "ann"}, "says 'as', which Tango does not do"),
    ({}, {"as-groups": ["ops"]}, "says 'as-groups'"),
    ({}, {"auth-provider": {"name": "azure"}}, "its auth-provider is none of oidc and gcp"),
    ({}, {"exec": "get-token"}, "exec is text, expected a mapping"),
    ({}, {"exec": {"args": []}}, "names no command"),
    ({}, {"exec": {"command": "x", "args": [1]}}, "args are texts"),
    ({}, {"exec": {"command": "x", "env": ["A=b"]}}, "env is a list of mappings"),
]


@pytest.mark.parametrize(("cluster", "user", "told"), WITHOUT)
async def test_a_value_of_a_wrong_type_is_refused_and_not_taken_for_another(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], told: str
) -> None:
    """Nor left out: without it, calls would be made unverified, as somebody else, or as nobody."""
    path = Path(kubeconfig(tmp_path, "https://edge-1:6443", user))
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"] |= cluster
    path.write_text(yaml.safe_dump(document))

    with pytest.raises(ConfigError, match=told) as refused:
        await Credentials(str(path), "it").load()
    assert "s3" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no list contexts of mappings"),
        ("- 1", "no list contexts of mappings"),
        ("contexts: [1]", "no list contexts of mappings"),
        ("contexts: [{name: at}]", "it has no context 'it'; contexts are: 'at'"),
        ("contexts: [{name: it, context: x}]", "context 'it' is text, expected a mapping"),
        ("contexts: [{name: it, context: {user: u}}]", "it names no cluster"),
        ("contexts: [{name: it, context: {cluster: k, user: u}}]", "it has no list clusters"),
        (
            "contexts: [{name: it, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: true}]",
            "cluster 'k' is true or false",
        ),
        ("a: [", "it is no YAML"),
        ("a: 2023-02-30", "day is out of range"),
        ("a: " + "[" * 100_000, "nested deeper than 32 at line 1"),
        ("- " * 100_000, "nested deeper than 32 at line 1"),
    ],
)
async def test_what_is_no_kubeconfig_is_refused_by_what_it_is(tmp_path: Path, content: str, told: str) -> None:
    """Also where libyaml would end the process."""
    (path := tmp_path / "config").write_text(content)
    with pytest.raises(ConfigError, match=told):
        await Credentials(str(path), "it").load()
    with pytest.raises(ConfigError):
        current_context(str(path))


async def test_several_files_in_one_path_are_told_with_what_makes_one_of_them(tmp_path: Path) -> None:
    """As kubectl takes them from KUBECONFIG."""
    path = f"{kubeconfig(tmp_path, 'https://a:1', {})}:{tmp_path / 'other'}"
    with pytest.raises(ConfigError, match=r"it names several files, expected one: `KUBECONFIG=.* kubectl config view --flatten"):
        await Credentials(path, "it").load()


async def test_a_token_may_end_in_the_line_break_that_files_have(tmp_path: Path) -> None:
    """In the kubeconfig as in a file of its own."""
    (tmp_path / "token").write_text("tok-tango\r\n")
    for user in ({"token": "tok-tango\n"}, {"tokenFile": "token"}):
        found = await Credentials(kubeconfig(tmp_path, "https://edge-1:6443", user), "it").load()
        assert found.authorization == "Bearer tok-tango"


def test_a_token_that_nobody_renews_says_when_it_ends() -> None:
    """As `kubectl create token` prints it; one in a file is renewed there."""
    payload = base64.urlsafe_b64encode(b'{"exp": 1800000000, "sub": "x"}').decode().rstrip("=")
    token = f"eyJhbGciOiJub25lIn0.{payload}.c2ln"

    assert token_ends_at_s({"token": token}) == 1_800_000_000.0
    assert token_ends_at_s({"token": token, "tokenFile": "token"}) == math.inf
    for other in ({}, {"token": "opaque"}, {"token": "a.b.c"}, {"token": "a.bnVsbA.c"}):
        assert token_ends_at_s(other) == math.inf
