"""`tango gateway`: run the gateways of clusters in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--cluster", "clusters", required=True, multiple=True, help="A cluster whose journal lies on this host. May be repeated."
)
@click.option(
    "--port", "ports", required=True, multiple=True, type=click.IntRange(0, 65535), help="Its port; one for each cluster."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: all.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of the certificate, with its chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of its private key.")
@click.option("--no-tls", is_flag=True, help="Plain HTTP on other addresses than loopback: something before it ends TLS.")
def gateway(
    clusters: tuple[str, ...], ports: tuple[int, ...], host: str, tls_cert: Path | None, tls_key: Path | None, no_tls: bool
) -> None:
    """Take requests of callers for clusters, until Ctrl-C. `tango up` runs one for its clusters already."""
    from tango.bootstrap.environment import configure_logging
    from workers.gateway import serve

    configure_logging()
    serve(clusters, ports, host=host, certificate=tls_cert, key=tls_key, may_be_plain=no_tls)
