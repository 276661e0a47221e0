"""`tango apiserver` and `tango kubelet`: run one embedded API server or one virtual kubelet without the rest of the stack."""

from __future__ import annotations

from pathlib import Path

import click

from tango.cli import names
from tango.cli.bounds import Whole

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--port", type=Whole(0, 65535), default=0, show_default=True, help="TCP port on 127.0.0.1; 0: any free port.")
@click.option(
    "--token-file",
    required=True,
    type=FILE,
    help='Bearer tokens in the format of Kubernetes: lines of token,user,uid,"group1,group2".',
)
@click.option("--port-file", type=FILE, default=None, help="Write the port to this file once it is bound.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder that keeps the objects over a restart.  [default: in memory]",
)
@click.option("--cluster", default="embedded", show_default=True, help="Name of the cluster, for logs.")
def apiserver(port: int, token_file: Path, port_file: Path | None, data_dir: Path | None, cluster: str) -> None:
    """Run one embedded Kubernetes API server in the foreground, on loopback.

    \b
        tango apiserver --port 6443 --token-file tokens.csv --data-dir /var/lib/tango/api
    """
    from tango.emulation.api_server import ApiServerOptions, run_api_servers

    options = ApiServerOptions(cluster=cluster, port=port, token_file=token_file, port_file=port_file, data_dir=data_dir)
    run_api_servers([options])


@click.command()
@click.option("--kubeconfig", required=True, type=FILE, help="File that holds the context.")
@click.option("--context", required=True, help="Context of the API server to register the nodes at.")
@click.option(
    "--fleet",
    required=True,
    help="Fleet that declares the nodes: a built-in name or a YAML file.",
    shell_complete=names.FLEETS,
)
@click.option("--cluster", required=True, help="Which of the fleet's clusters to run the nodes of.")
def kubelet(kubeconfig: Path, context: str, fleet: str, cluster: str) -> None:
    """Run the virtual kubelet of one cluster's nodes in the foreground, against any API server.

    \b
        tango kubelet --kubeconfig ~/.kube/config --context kind --fleet demo --cluster c1
    """
    from tango.bootstrap.environment import read_settings
    from tango.emulation.virtual_kubelet import VirtualKubeletOptions, run_virtual_kubelets

    key = read_settings().call_key
    run_virtual_kubelets(VirtualKubeletOptions(kubeconfig=kubeconfig, fleet=fleet, contexts={cluster: context}, call_key=key))
