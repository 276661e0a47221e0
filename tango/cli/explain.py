"""`tango explain`: why a request, a job, a pod or a node is as it is, what would change it, and what a decision did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.output import ListColumn, instant, output_option, print_mapping, print_rows, say
from tango.domain.identity import NodeKey, RequestKey

if TYPE_CHECKING:
    from tango.control.explaining import ExplainedNode, ExplainedRequest, Explainer

MOMENTS = (
    ListColumn("at_s", title="s after due", justify="right", priority=10),
    ListColumn("what", priority=10),
    ListColumn("words", title="how", priority=9),
)
CANDIDATES = (
    ListColumn("node", title="candidate", priority=10),
    ListColumn("price_words", title="price", justify="right", priority=10),
    ListColumn("verdict", title="", priority=9),
    ListColumn("made_of", title="made of", priority=6),
)
RESOURCES = (
    ListColumn("resource", priority=10),
    ListColumn("allocatable", justify="right", priority=9),
    ListColumn("lc", title="LC", justify="right", priority=8),
    ListColumn("be", title="BE", justify="right", priority=8),
    ListColumn("others", justify="right", priority=5),
    ListColumn("free", justify="right", priority=10),
)
RUNNING = (
    ListColumn("request", priority=10),
    ListColumn("service", priority=9),
    ListColumn("state", priority=8),
    ListColumn("memory_mib", title="MiB", justify="right", priority=7),
    ListColumn("pod", priority=5),
)


class RequestName(click.ParamType[RequestKey]):
    """RUN/REQUEST or RUN-REQUEST."""

    name = "request"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RequestKey:
        """Fails for another text."""
        from tango.errors import UsageError

        try:
            return RequestKey.parsed(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class NodeName(click.ParamType[NodeKey]):
    """CLUSTER/NODE."""

    name = "node"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NodeKey:
        """Fails for another text."""
        cluster, slash, node = str(value).partition("/")
        if not (cluster and slash and node) or "/" in node:
            self.fail(f"{value!r} is no node, expected CLUSTER/NODE as in c1/n2", param, ctx)
        return NodeKey(cluster, node)


@click.group()
def explain() -> None:
    """Say why something is as it is, and what would change it: of a request, a job, a pod, a node or a decision.

    The reason is one of a fixed list (docs/explain.md); what would change it has been tried on the fleet as it is now.

    \b
        tango explain request 1/4711
        tango explain node c1/c1-n2
    """


@explain.command()
@click.argument("key", metavar="RUN/REQUEST", type=RequestName(), shell_complete=names.REQUESTS)
@output_option(formats=("table", "json", "yaml"))
def request(key: RequestKey, output: str) -> None:
    """Say why a request is in its state, who is ahead of it, what would change it, how it came there, and which nodes it might have gone
    to instead.

    \b
        tango explain request 1/4711
        tango explain request 1/4711 -o json
    """
    _print_request(_explainer().request(key), output)


@explain.command()
@click.argument("key", metavar="JOB", type=RequestName(), shell_complete=names.JOBS)
@output_option(formats=("table", "json", "yaml"))
def job(key: RequestKey, output: str) -> None:
    """Say the same of a JOB.

    \b
        tango explain job 17-250004
    """
    from tango.bootstrap.stores import stores

    stores().jobs.job(key)
    _print_request(_explainer().request(key), output)


@explain.command()
@click.argument("name", metavar="POD", shell_complete=names.PODS)
@output_option(formats=("table", "json", "yaml"))
def pod(name: str, output: str) -> None:
    """Say why the request of a BE POD is in its state, or what there is of an LC POD.

    \b
        tango explain pod lc-web-c1-n2-0
    """
    explainer = _explainer()
    key = explainer.request_of_pod(name)
    if key is not None:
        _print_request(explainer.request(key), output)
        return
    for cluster, instance in explainer.instances_named(name):
        shown = explainer.instance(cluster, instance)
        print_mapping(shown, output)


@explain.command()
@click.argument("key", metavar="CLUSTER/NODE", type=NodeName(), shell_complete=names.NODES)
@output_option(formats=("table", "json", "yaml"))
def node(key: NodeKey, output: str) -> None:
    """Say what a node has, what is reserved there and by whom, and what keeps new BE pods away from it.

    \b
        tango explain node c1/c1-n2
    """
    _print_node(_explainer().node(key), output)


@explain.command()
@click.argument("number", metavar="[DECISION]", type=Whole(min=1), required=False)
@output_option(formats=("table", "json", "yaml"))
def tick(number: int | None, output: str) -> None:
    """Say what a decision did, and why there: without a number the latest placement of BE. `tango sql` finds numbers in the table
    `decision`.

    \b
        tango explain tick
        tango explain tick 5120
    """
    from tango.domain.candidates import shown

    found = dict(_explainer().decision(number))
    weighed = [shown(one) for one in found.pop("weighed")]
    if output != "table":
        print_mapping(found | {"candidates": weighed}, output)
        return
    found["at_s"] = instant(found["at_s"])
    print_mapping({name: value for name, value in found.items() if value not in ("", [], None)}, output)
    for told in weighed:
        _print_candidates(told)


def _explainer() -> Explainer:
    from tango.bootstrap.stores import stores

    return stores().explainer


def _print_request(found: ExplainedRequest, output: str) -> None:
    from tango.domain.candidates import shown

    if output != "table":
        print_mapping(shown_request(found), output)
        return
    standing, explanation = found.standing, found.explanation
    rows: dict[str, Any] = {
        "request": f"{standing.key.run_id}/{standing.key.request_id}",
        "class": standing.service_class.label,
        "service": standing.service,
        "tenant": standing.tenant,
        "state": str(standing.state),
        "reason": str(explanation.reason),
        "why": explanation.words,
        **dict(explanation.figures),
    }
    if explanation.changes:
        rows["would change if"] = explanation.would_change
    if (queue := explanation.queue) is not None and queue.position > 1:
        nearest = ", ".join(f"{key.run_id}/{key.request_id}" for key in reversed(queue.ahead))
        rows["place in the queue"] = (
            f"{queue.position}; before it {nearest}{', …' if queue.position - 1 > len(queue.ahead) else ''}"
        )
        rows["by"] = queue.rule
    print_mapping(rows, output)
    moments = list[dict[str, Any]]()
    for m in found.history:
        moments.append({"at_s": m.at_s - standing.due_s, "what": m.what, "words": m.words})
        moments += [{"at_s": None, "what": "", "words": words} for words in m.beside]
    click.echo()
    print_rows(moments, MOMENTS, output)
    if found.not_kept:
        click.echo()
        say(f"candidates: {found.not_kept}")
    for weighed in found.weighed:
        _print_candidates(shown(weighed))


def _print_candidates(told: Mapping[str, Any]) -> None:
    click.echo()
    click.echo(f"attempt {told['epoch']} of {told['request']}, by {told['policy']}: {told['why']}")
    rows = [node | {"verdict": "chosen" if node["node"] == told["chosen"] else node["refused"]} for node in told["nodes"]]
    print_rows(rows, CANDIDATES, "table")
    left_out = told["takers"] - sum(not node["refused"] for node in told["nodes"])
    if left_out > 0:
        say(f"{left_out} more could have taken it")


def shown_request(found: ExplainedRequest) -> dict[str, Any]:
    """An explained request as JSON has it."""
    from tango.domain.candidates import shown

    standing, explanation, queue = found.standing, found.explanation, found.explanation.queue
    return {
        "request": f"{standing.key.run_id}/{standing.key.request_id}",
        "class": standing.service_class.label,
        "service": standing.service,
        "tenant": standing.tenant,
        "state": str(standing.state),
        "reason": str(explanation.reason),
        "words": explanation.words,
        "figures": dict(explanation.figures),
        "changes": [_shown_change(change) for change in explanation.changes],
        "queue": None
        if queue is None
        else {
            "position": queue.position,
            "considered": queue.considered,
            "ahead": [str(key) for key in queue.ahead],
            "rule": queue.rule,
        },
        "cluster": standing.entry_cluster,
        "node": str(standing.node_key) if standing.node_key else None,
        "pod": standing.pod or None,
        "attempts": standing.attempts,
        "due_s": standing.due_s,
        "history": [{"at_s": m.at_s, "what": m.what, "words": m.words, "beside": list(m.beside)} for m in found.history],
        "candidates": [shown(weighed) for weighed in found.weighed],
        "candidates_not_kept": found.not_kept,
    }


def _shown_change(change: Any) -> dict[str, Any]:
    from dataclasses import asdict

    told = {name: value for name, value in asdict(change).items() if value not in ("", 0.0)}
    return {**told, "kind": str(change.kind), "words": str(change)}


def _print_node(found: ExplainedNode, output: str) -> None:
    shown: Mapping[str, Any] = {
        "node": str(found.node),
        "reasons": dict(found.reasons),
        "closed_to": {service: list(words) for service, words in found.closed_to.items()},
        "resources": list(found.resources),
        "instances": [
            {"pod": i.pod, "service": i.service, "ready": i.ready, "cpu_request_millicores": i.cpu_request_millicores}
            for i in found.instances
        ],
        "running": list(found.running),
    }
    if output != "table":
        print_mapping(shown, output)
        return
    print_rows(shown["resources"], RESOURCES, output)
    click.echo()
    if not found.closed_to:
        say("it takes BE of every service that has room there")
    for service, words in found.closed_to.items():
        click.echo(f"no new pods of {service} ({found.reasons[service]}): {'; '.join(words)}")
    for i in found.instances:
        click.echo(f"LC {i.service}: {i.pod}, {'ready' if i.ready else 'not ready'}, requests {i.cpu_request_millicores}m of CPU")
    click.echo()
    print_rows(shown["running"], RUNNING, output, empty="No BE runs there.")
