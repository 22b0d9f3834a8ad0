"""The graph between models that their tags draw."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.host.usable_models import UsableModel
from shared.orchestration.tags import capabilities_of, relation_in

GRAPH_NODES = 30
GRAPH_EDGES = 90


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A model; `known` is False for a name in a tag that is no model of this user's."""

    id: str
    name: str
    capabilities: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """`source` and `target` are ids of nodes."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """`cut` tells that there is more than is shown."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    cut: bool

    def as_json(self) -> dict[str, Any]:
        """For a model to read; an edge is [from, relation, to]."""
        return {
            "nodes": [node_json(node) for node in self.nodes],
            "edges": [[edge.source, edge.relation, edge.target] for edge in self.edges],
            **({"cut": True} if self.cut else {}),
        }


def node_json(node: GraphNode) -> dict[str, Any]:
    told: dict[str, Any] = {"id": node.id}
    if not node.known:
        return told | {"unknown": True}
    if node.name != node.id:
        told["name"] = node.name
    if node.capabilities:
        told["capabilities"] = list(node.capabilities)
    return told


def model_graph(models: Mapping[str, UsableModel], prefix: str) -> ModelGraph:
    """All models that have a capability or a relation, or that one points to.

    `prefix` is how tags of relations begin. A target that is none of `models` stays in
    the words of its tag: it is not told whether others have such a model.
    """
    by_name = names_to_ids(models)
    nodes: dict[str, GraphNode] = {}
    edges: dict[GraphEdge, None] = {}
    for model in models.values():
        relations = [found for tag in model.tags if (found := relation_in(tag, prefix))]
        if relations or capabilities_of(model):
            nodes[model.id] = model_node(model)
        for relation in relations:
            target_id = by_name.get(relation.target.casefold())
            if target_id is None:
                node = GraphNode(relation.target, relation.target, known=False)
            else:
                node = model_node(models[target_id])
            nodes.setdefault(node.id, node)
            edges[GraphEdge(model.id, relation.relation, node.id)] = None
    ends = Counter(end for edge in edges for end in (edge.source, edge.target))
    ordered = sorted(nodes, key=lambda node_id: -ends[node_id])
    shown = {node_id: nodes[node_id] for node_id in ordered[:GRAPH_NODES]}
    drawn = [edge for edge in edges if {edge.source, edge.target} <= shown.keys()]
    cut = len(shown) < len(nodes) or len(drawn) > GRAPH_EDGES
    return ModelGraph(tuple(shown.values()), tuple(drawn[:GRAPH_EDGES]), cut)


def model_node(model: UsableModel) -> GraphNode:
    return GraphNode(model.id, model.name, tuple(capabilities_of(model)))


def names_to_ids(models: Mapping[str, UsableModel]) -> dict[str, str]:
    """How a tag may name a model: by its id, or by a name that only one has."""
    names = [model.name.casefold() for model in models.values()]
    by_name = {
        model.name.casefold(): model.id
        for model in models.values()
        if names.count(model.name.casefold()) == 1
    }
    return by_name | {model_id.casefold(): model_id for model_id in models}
