"""`tango gateway`: run the gateways of clusters in the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tango.cli.bounds import Whole


@click.command()
@click.option(
    "--cluster", "clusters", required=True, multiple=True, help="A cluster whose journal lies on this host. May be repeated."
)
@click.option("--port", "ports", required=True, multiple=True, type=Whole(0, 65535), help="Its port; one for each cluster.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: all.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of the certificate, with its chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of its private key.")
@click.option("--no-tls", is_flag=True, help="Plain HTTP on other addresses than loopback: something before it ends TLS.")
def gateway(
    clusters: tuple[str, ...], ports: tuple[int, ...], host: str, tls_cert: Path | None, tls_key: Path | None, no_tls: bool
) -> None:
    """Take requests of callers for clusters, until Ctrl-C. `tango up` runs one for its clusters already.

    \b
        tango gateway --cluster c1 --port 8443 --tls-cert tls.crt --tls-key tls.key
        tango gateway --cluster c1 --port 8080 --no-tls
    """
    from tango.bootstrap.environment import configure_logging
    from workers.gateway import serve

    configure_logging()
    _require_journals(clusters)
    serve(clusters, ports, host=host, certificate=tls_cert, key=tls_key, may_be_plain=no_tls)


def _require_journals(clusters: Sequence[str]) -> None:
    """Raises: UsageError for a cluster without a journal here: a gateway would make one that no agent ever reads."""
    from tango.bootstrap.environment import read_settings
    from tango.bootstrap.journals import journal_path
    from tango.domain.near_names import near_name
    from tango.errors import UsageError

    settings = read_settings()
    for cluster in clusters:
        path = journal_path(cluster, settings)
        if not path.exists():
            known = sorted(found.stem for found in path.parent.glob("*.db"))
            raise UsageError(
                f"there is no journal of cluster {cluster!r} in {path.parent}{near_name(cluster, known)}, there are: "
                f"{', '.join(known) or 'none'}; start the cluster's agent on this host first, or set TANGO_JOURNAL_DIR"
            )
