"""The graph, and its picture."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from shared.orchestration.relation_picture import graph_page
from shared.orchestration.relations import (
    GRAPH_EDGES,
    GRAPH_NODES,
    GraphEdge,
    GraphNode,
    model_graph,
)
from tests.unit.orchestrator.models import by_id, model


def test_nodes_and_edges():
    graph = model_graph(
        by_id(
            model("luna", "cap:artist", "rel:works-with:SOL"),
            model("sol"),
            model("mira", "cap:critic"),
            model("vega", "fast"),
        ),
        "rel:",
    )
    assert set(graph.nodes) == {
        GraphNode("luna", "Luna", ("artist",)),
        GraphNode("sol", "Sol"),
        GraphNode("mira", "Mira", ("critic",)),
    }
    assert graph.edges == (GraphEdge("luna", "works-with", "sol"),)
    assert not graph.cut


def test_a_target_is_an_id_or_a_name_that_only_one_has():
    models = by_id(
        model("a", "rel:asks:twin", "rel:asks:Only", "rel:asks:llama3:8b"),
        model("b", name="Twin"),
        model("c", name="Twin"),
        model("d", name="only"),
        model("llama3:8b", name="Llama"),
    )
    assert [edge.target for edge in model_graph(models, "rel:").edges] == [
        "twin",
        "d",
        "llama3:8b",
    ]


def test_what_is_no_model_of_the_user_stays_in_the_words_of_the_tag():
    graph = model_graph(by_id(model("a", "rel:asks:Secret")), "rel:")
    assert GraphNode("Secret", "Secret", known=False) in graph.nodes
    assert graph.as_json()["nodes"][-1] == {"id": "Secret", "unknown": True}


def test_an_edge_is_there_once():
    models = by_id(model("a", "rel:asks:b", "rel:asks:B"), model("b"))
    assert len(model_graph(models, "rel:").edges) == 1


def test_a_large_graph_is_cut_to_what_is_most_related():
    targets = [f"t{number}" for number in range(GRAPH_NODES + 5)]
    models = by_id(model("hub", *(f"rel:asks:{target}" for target in targets)))
    graph = model_graph(models, "rel:")
    assert graph.cut
    assert len(graph.nodes) == GRAPH_NODES
    assert graph.nodes[0].id == "hub"
    assert len(graph.edges) == GRAPH_NODES - 1 <= GRAPH_EDGES
    assert graph.as_json()["cut"] is True


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.sampled_from(["rel:asks:a", "rel:x:b", "rel:y:<&>", "cap:\"'"])),
    )
)
def test_the_picture_is_sound_and_shows_everything(tags):
    models = by_id(*(model(key, *found) for key, found in tags.items()))
    graph = model_graph(models, "rel:")
    page = graph_page(graph, "Who & <whom>", "no model")
    svg = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    root = ET.fromstring(svg)
    texts = {element.text for element in root.iter("text")}
    assert {"Who & <whom>", *(node.name for node in graph.nodes)} <= texts
    assert {edge.relation for edge in graph.edges} <= texts
    arrows = [path for path in root.iter("path") if path.get("marker-end")]
    assert len(arrows) == len(graph.edges)
    assert page.count("<script") == 1


def test_many_relations_look_different_each():
    tags = [f"rel:kind-{number}:b" for number in range(20)]
    graph = model_graph(by_id(model("a", *tags), model("b")), "rel:")
    page = graph_page(graph, "Graph", "no model")
    svg = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    looks = {
        (path.get("stroke"), path.get("stroke-dasharray"))
        for path in ET.fromstring(svg).iter("path")
        if path.get("marker-end")
    }
    assert len(looks) == len(tags)
