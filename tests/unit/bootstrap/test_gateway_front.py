"""Where a gateway listens: tokens go over a network only behind TLS, unless somebody says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tango.bootstrap.gateway import Front
from tango.errors import ConfigError, FileUnusable, UsageError
from workers.gateway import serve


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_loopback_plain_http_will_do(host: str) -> None:
    """Nobody else can listen there."""
    assert Front(cluster="c1", host=host, port=0).context(may_be_plain=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "edge-1"])
def test_elsewhere_plain_http_must_be_asked_for(host: str) -> None:
    """The message names both ways out."""
    front = Front(cluster="c1", host=host, port=0)

    with pytest.raises(UsageError, match="--tls-cert and --tls-key, or say --no-tls"):
        front.context(may_be_plain=False)
    assert front.context(may_be_plain=True) is None


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    """One alone is a mistake; what is no certificate is named, and which of the two is not there."""
    pem = tmp_path / "pem"
    pem.write_text("no certificate")

    with pytest.raises(UsageError, match="go together"):
        Front(cluster="c1", port=0, certificate=pem).context(may_be_plain=True)
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        Front(cluster="c1", port=0, certificate=pem, key=pem).context(may_be_plain=True)
    for certificate, key in ((tmp_path / "none", pem), (pem, tmp_path / "none")):
        with pytest.raises(FileUnusable, match=r"none cannot be read: .*; name a file that is there"):
            Front(cluster="c1", port=0, certificate=certificate, key=key).context(may_be_plain=True)


def test_a_certificate_and_its_key_make_tls(tmp_path: Path) -> None:
    """1.2 or later."""
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())

    context = Front(cluster="c1", host="0.0.0.0", port=0, certificate=certificate, key=key).context(may_be_plain=False)

    assert context is not None
    assert context.minimum_version.name == "TLSv1_2"


@pytest.mark.parametrize(
    ("clusters", "ports", "found"), [(["a", "b"], [1], "2 clusters and 1 ports"), (["a", "a"], [1, 2], "named twice")]
)
def test_clusters_and_ports_come_in_pairs(clusters: list[str], ports: list[int], found: str) -> None:
    """Nothing is served otherwise."""
    with pytest.raises(UsageError, match=found):
        serve(clusters, ports)
