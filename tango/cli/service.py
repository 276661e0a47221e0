"""`tango service`: declare LC and BE services, list and withdraw them."""

from __future__ import annotations

from pathlib import Path

import click

from tango.cli.output import Column, output_option, print_rows

COLUMNS = (
    Column("name"),
    Column("class"),
    Column("target_ms", justify="right"),
    Column("cpu_work_s", justify="right"),
    Column("memory_mib", justify="right"),
    Column("extended", show=lambda amounts: ", ".join(f"{quantity} {name}" for name, quantity in amounts.items())),
    Column("instances_per_node", justify="right"),
    Column("image", wide=True),
)


@click.group()
def service() -> None:
    """Declare LC and BE services; agents deploy LC instances to every node."""


@service.command()
@click.option("-f", "--file", "path", required=True, type=click.Path(path_type=Path), help="YAML with one or more services.")
def apply(path: Path) -> None:
    """Declare or change the services of a file."""
    from tango.bootstrap.stores import stores
    from tango.fleets import load_services
    from tango.fleets.extended import refuse_fractions

    services = load_services(path)
    refuse_fractions(services)
    stores().fleet.put_services(services)
    click.echo(f"declared: {', '.join(s.name for s in services)}", err=True)


@service.command(name="list")
@output_option()
def list_services(output: str) -> None:
    """List declared services."""
    from tango.bootstrap.stores import stores
    from tango.domain.quantities import format_extended

    rows = [
        {
            "name": s.name,
            "class": s.service_class.label,
            "target_ms": s.target_ms,
            "cpu_work_s": s.cpu_work_s,
            "memory_mib": s.memory_mib,
            "extended": format_extended(s.extended),
            "instances_per_node": s.instances_per_node if s.target_ms else None,
            "image": s.image,
        }
        for s in stores().fleet.services()
    ]
    print_rows(rows, COLUMNS, output)


@service.command()
@click.argument("name", required=False)
@click.option("-f", "--file", "path", type=click.Path(path_type=Path), default=None, help="YAML with the services to delete.")
def delete(name: str | None, path: Path | None) -> None:
    """Withdraw a service by NAME, or those of a file; its instances are removed."""
    from tango.bootstrap.stores import stores
    from tango.fleets import load_services

    if (name is None) == (path is None):
        raise click.UsageError("give a NAME or -f FILE")
    names = [name] if name else [s.name for s in load_services(path)] if path else []
    stores().fleet.delete_services(names)
    click.echo(f"withdrawn: {', '.join(names)}", err=True)
