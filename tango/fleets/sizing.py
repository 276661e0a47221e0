"""Fleets of other sizes: how many nodes of which kind stand in the clusters of a declared fleet.

Clusters, sites, network and services stay. Numbers are divided over the clusters so that each has a node, and one node more is one node
more in some cluster and none less in any other: then more nodes never are a worse fleet by the division alone.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from tango.domain.fleet import MOST_PODS, Cluster, Fleet, Node
from tango.domain.quantities import Amounts, cpu_millicores, format_extended, format_mib, format_millicores, memory_mib
from tango.errors import FileRefused, UsageError
from tango.fleets.catalog import parse_fleet
from tango.fleets.clusters import MAX_MILLICORES, MAX_NODES
from tango.fleets.declarations import dump_fleet
from tango.fleets.recipes import machines_of

DECLARED = "declared"
"""The kind that stands for the declared nodes of each cluster, in their order, over and over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """Nodes that are alike; or, as `DECLARED`, those that a fleet declares."""

    name: str
    """`CPU/MEMORY` as Kubernetes writes quantities, such as `4/7Gi`, with extended resources behind; or `DECLARED`."""
    cpu_millicores: int = 0
    memory_mib: int = 0
    pods: int = MOST_PODS
    extended: Amounts = ()

    @property
    def is_declared(self) -> bool:
        """Whether it stands for the declared nodes and not for one kind."""
        return self.name == DECLARED


def kinds_of(fleet: Fleet) -> tuple[NodeKind, ...]:
    """The kinds of a fleet's nodes, the smallest first."""
    return tuple(_kind(m.cpu_millicores, m.memory_mib, m.pods, m.extended) for m in machines_of(fleet))


def usual_kinds(fleet: Fleet) -> tuple[NodeKind, ...]:
    """The kinds that are planned with where none is named: those of the fleet's nodes, and of several the declared ones together."""
    kinds = kinds_of(fleet)
    return (*kinds, NodeKind(name=DECLARED)) if len(kinds) > 1 else kinds


def kind_named(text: str, fleet: Fleet) -> NodeKind:
    """The kind that a text names: one of the fleet's, `DECLARED`, or any other as `CPU/MEMORY`. Raises: UsageError."""
    known = {kind.name: kind for kind in kinds_of(fleet)}
    if text == DECLARED:
        return NodeKind(name=DECLARED)
    if text in known:
        return known[text]
    cpu, sign, memory = text.partition("/")
    try:
        millicores, mib = cpu_millicores(cpu), memory_mib(memory)
        if not sign or not 0 < millicores <= MAX_MILLICORES or mib <= 0:
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no kind of node, expected {DECLARED}, CPU/MEMORY such as 4/16Gi, or one of the fleet's: {', '.join(known)}"
        ) from error
    found = _kind(millicores, mib)
    return known.get(found.name, found)


def least_nodes(fleet: Fleet, *, beside: bool) -> int:
    """The least number that `resized` takes: a node for each cluster, or with `beside` none."""
    return 0 if beside else len(fleet.clusters)


def mean_cores(fleet: Fleet, kind: NodeKind) -> float:
    """Cores of a node of the kind; of the declared ones, on average."""
    if not kind.is_declared:
        return kind.cpu_millicores / 1000.0
    cores = [node.cpu_millicores / 1000.0 for node in fleet.nodes]
    return sum(cores) / len(cores)


def resized(fleet: Fleet, kind: NodeKind, count: int, *, beside: bool = False) -> Fleet:
    """The fleet with `count` nodes of a kind in place of its own, or with `beside` beside its own.

    Clusters have them in proportion to the CPU that is declared for each, but one at least. Its hash is that of its own declaration.
    Raises: UsageError for fewer than `least_nodes`, or more than a fleet can have; FileRefused where a service fits on no node.
    """
    least = least_nodes(fleet, beside=beside)
    if not least <= count <= MAX_NODES:
        raise UsageError(f"{count} nodes of kind {kind.name}, expected {least} to {MAX_NODES}")
    cores = [sum(node.cpu_millicores for node in cluster.nodes) for cluster in fleet.clusters]
    counts = divided(count, cores, least=0 if beside else 1)
    clusters = tuple(_cluster(of, kind, n, beside=beside) for of, n in zip(fleet.clusters, counts, strict=True))
    return parse_fleet(dump_fleet(dataclasses.replace(fleet, clusters=clusters)), f"{fleet.name} with {count} nodes of {kind.name}")


def why_unfit(fleet: Fleet, kind: NodeKind, *, beside: bool) -> str:
    """Why a fleet of this kind cannot hold the services; empty where it can."""
    try:
        resized(fleet, kind, least_nodes(fleet, beside=beside), beside=beside)
    except FileRefused as error:
        return str(error).partition(": ")[2]
    return ""


def divided(count: int, weights: Sequence[float], *, least: int) -> list[int]:
    """A number divided in proportion to weights, each at least `least`; one more to divide never takes from any.

    Source: the divisor method of Webster and Sainte-Laguë (Balinski and Young, Fair Representation, 1982): the next one goes where
    weight / (2 n + 1) is greatest; of equal ones to the first.
    """
    counts = [least] * len(weights)
    heap = [(-weight / (2 * least + 1), at) for at, weight in enumerate(weights)]
    heapq.heapify(heap)
    for _ in range(count - least * len(weights)):
        _, at = heap[0]
        counts[at] += 1
        heapq.heapreplace(heap, (-weights[at] / (2 * counts[at] + 1), at))
    return counts


def _kind(millicores: int, mib: int, pods: int = MOST_PODS, extended: Amounts = ()) -> NodeKind:
    name = f"{format_millicores(millicores)}/{format_mib(mib)}"
    name += "".join(f"+{resource}={amount}" for resource, amount in format_extended(extended).items())
    name += f"+pods={pods}" if pods != MOST_PODS else ""
    return NodeKind(name=name, cpu_millicores=millicores, memory_mib=mib, pods=pods, extended=extended)


def _cluster(of: Cluster, kind: NodeKind, count: int, *, beside: bool) -> Cluster:
    there = of.nodes if beside else ()
    taken = {node.name for node in there}
    free = (name for k in range(1, count + len(taken) + 1) if (name := f"{of.name}-n{k}") not in taken)
    added = tuple(dataclasses.replace(_node(of, kind, k), name=next(free)) for k in range(count))
    return dataclasses.replace(of, nodes=(*there, *added))


def _node(of: Cluster, kind: NodeKind, k: int) -> Node:
    if kind.is_declared:
        return of.nodes[k % len(of.nodes)]
    return Node(name="", cpu_millicores=kind.cpu_millicores, memory_mib=kind.memory_mib, pods=kind.pods, extended=kind.extended)
