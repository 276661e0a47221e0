"""The command tree. A command's module is imported when the command is used, so `tango --help` loads neither torch nor kubernetes."""

from __future__ import annotations

import importlib
from typing import Any

import click
from click.shell_completion import CompletionItem

from tango import __version__
from tango.cli.failures import run_reporting_failures
from tango.stack.inherited import keep_own_rights, leave_out_others, open_closed_streams

# In the order of a first session, which `tango --help` keeps.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("tango.cli.stack:up", "Start the local stack: database, broker, clusters, workers, scheduler."),
    "status": ("tango.cli.stack:status", "Show every process of the local stack."),
    "top": ("tango.cli.top:top", "Show the fleet, its queues, QoS and decisions in the terminal, live."),
    "console": ("tango.cli.console:console", "Print the address of the stack's console, pages for a browser."),
    "down": ("tango.cli.stack:down", "Stop the local stack; data and logs stay."),
    "line": ("tango.cli.stack:line", "Change how the emulated line to the centre behaves."),
    "env": ("tango.cli.stack:env", "Print the settings with which celery, psql and Flower reach the stack."),
    "flower": ("tango.cli.stack:flower", "Run a Flower for a cluster that has a broker of its own."),
    "demo": ("tango.cli.demo:demo", "Start everything, replay a minute of mixed requests, show the result, stop."),
    "run": ("tango.cli.run:run", "Submit traces; list, show, follow, cancel and delete runs."),
    "request": ("tango.cli.request:request", "Send a request to a service through a gateway, and print its answer."),
    "job": ("tango.cli.job:job", "Submit best-effort jobs; list, show, follow, wait for and cancel them."),
    "explain": ("tango.cli.explain:explain", "Say why a request, job, pod or node is as it is, and what would change it."),
    "live": ("tango.cli.live:live", "Choose the system that decides for what callers send."),
    "simulate": ("tango.cli.simulate:simulate", "Simulate a trace under a system on a fleet, on virtual time."),
    "compare": ("tango.cli.compare:compare", "Compare systems on the same requests, paired by seed."),
    "plan": ("tango.cli.plan:plan", "Find how many nodes of which kind a trace needs, or what a fleet bears."),
    "validate": ("tango.cli.validate:validate", "Compare the simulator's engine with queueing theory."),
    "policy": ("tango.cli.policy:policy", "List policies, begin one of your own, and check it."),
    "tune": ("tango.cli.tune:tune", "Search the parameters of systems on training seeds."),
    "train": ("tango.cli.train:train", "Learn a policy in simulation, on training seeds."),
    "checkpoint": ("tango.cli.checkpoint:checkpoint", "Register learned checkpoints, promote them, try and score candidates."),
    "report": ("tango.cli.report:report", "Write a run's report: one self-contained HTML page."),
    "sql": ("tango.cli.sql:sql", "Query run history, read-only."),
    "export": ("tango.cli.export:export", "Write rows of a run to a file for pandas, DuckDB and Polars."),
    "trace": ("tango.cli.trace:trace", "Look at, convert and generate traces."),
    "fleet": ("tango.cli.fleet:fleet", "List, show and generate fleets: clusters, nodes, links, services."),
    "service": ("tango.cli.service:service", "Declare LC and BE services."),
    "gateway": ("tango.cli.gateway:gateway", "Run the gateways of clusters in the foreground."),
    "tenant": ("tango.cli.tenant:tenant", "Declare tenants: their weights, quotas and jobs at a time."),
    "token": ("tango.cli.token:token", "Make, list and revoke the tokens of callers."),
    "node": ("tango.cli.node:node", "List the nodes of all clusters, with what their node agents tell."),
    "cluster": ("tango.cli.cluster:cluster", "Join clusters by kubeconfig and context."),
    "database": ("tango.cli.database:database", "Prepare, migrate, back up and restore the database."),
    "doctor": ("tango.cli.doctor:doctor", "Say what is wrong with this installation, and what to do."),
    "bench": ("tango.cli.bench:bench", "Measure against a yardstick in the same run."),
    "apiserver": ("tango.cli.emulation:apiserver", "Run one embedded Kubernetes API server in the foreground."),
    "kubelet": ("tango.cli.emulation:kubelet", "Run one virtual kubelet against any API server in the foreground."),
    "help": ("tango.cli.help:show_help", "Explain a topic, such as runs, systems or exit codes."),
    "completion": ("tango.cli.completion:completion", "Print the shell completion script."),
}
"""By command name: `module:attribute` of the click command, and the help line that is shown without importing that module."""


ALIASES = {"db": "database"}
"""Short names of commands."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command; None for an unknown name."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """As click does, of `COMMANDS`; click would import every command to ask it for its help."""
        commands = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help lines of `COMMANDS`; click's own method would import every command to ask it for its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tango")
# `tango.cli.failures` looks for --debug in the arguments by itself: an error may come before click has parsed them.
@click.option("--debug", is_flag=True, envvar="TANGO_DEBUG", help="Show tracebacks.")
def cli(**_: Any) -> None:
    """Schedule latency-critical and best-effort requests over many small Kubernetes clusters.

    \b
        tango demo                                  # a minute of everything, then it stops
        tango up --detach && tango status
        tango help runs                             # what a run is; `tango help` lists the topics
        tango run submit --help                     # every command has examples
    """


def run() -> None:
    """Entry point of the console script `tango`; never returns."""
    open_closed_streams()
    leave_out_others(starts_others=True)
    keep_own_rights()
    run_reporting_failures(cli)
