"""The graph between models as a page of its own: an SVG, without any script but one.

Nodes stand on a circle, an arrow's colour and dashes are its relation. The page brings its own
ground, so that it can be read on a light and a dark page alike.
"""

import math
from html import escape
from typing import NamedTuple

from shared.orchestration.relations import GraphEdge, GraphNode, ModelGraph

LEAST_WIDTH = 720
LABEL_WIDTH = 220
MARGIN = 64
LEGEND_LINE = 22
DOT = 7
# How far an arrow ends before the middle of a node.
GAP = DOT + 5
# Of middle lightness, so that they stand out from white and from black.
EDGE_COLORS = ("#3f83f0", "#e07b39", "#2f9e63", "#a95fd6", "#d64f77", "#2a9fb0")

PICTURE_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #26262b; --soft: #6b6b75; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #1c1c20; --ink: #ececf0; --soft: #a3a3ad; }
}
body { margin: 0; background: var(--ground); border-radius: 16px; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; }
.title { font-size: 15px; font-weight: 600; }
text { fill: var(--ink); }
.soft { fill: var(--soft); font-size: 11px; }
.dot { fill: var(--ink); }
.unknown { fill: var(--ground); stroke: var(--soft); stroke-dasharray: 3 2; }
"""
# Open WebUI sets the height of the frame when the page tells it.
HEIGHT_SCRIPT = """
const tell = () => parent.postMessage(
  { type: "iframe:height", height: document.documentElement.offsetHeight }, "*");
addEventListener("load", tell);
addEventListener("resize", tell);
"""


class Spot(NamedTuple):
    """A place in the picture, in its own units."""

    x: float
    y: float


class LineStyle(NamedTuple):
    """How arrows of a relation look: the number of their head, and `stroke`."""

    head: int
    stroke: str


def graph_page(graph: ModelGraph, title: str, unknown: str) -> str:
    """The page. `unknown` explains nodes that are no model."""
    relations = sorted({edge.relation for edge in graph.edges})
    styles = {relation: line_style(place) for place, relation in enumerate(relations)}
    radius = circle_radius(len(graph.nodes))
    width = max(LEAST_WIDTH, 2 * (radius + LABEL_WIDTH))
    middle = Spot(width / 2, MARGIN + radius + 24)
    spots = node_spots(graph.nodes, middle, radius)
    legend_top = max((spot.y for spot in spots.values()), default=0) + MARGIN
    height = legend_top + LEGEND_LINE * (len(relations) + 1)
    parts = [
        f'<text class="title" x="24" y="32">{escape(title)}</text>',
        *(arrow_head(place, color) for place, color in enumerate(EDGE_COLORS)),
        *(
            draw_edge(edge, spots, middle, styles[edge.relation])
            for edge in graph.edges
        ),
        *(draw_node(node, spots[node.id], middle, unknown) for node in graph.nodes),
        *(
            draw_legend(relation, styles[relation], legend_top + LEGEND_LINE * place)
            for place, relation in enumerate(relations)
        ),
    ]
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{PICTURE_STYLE}</style></head><body>"
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img">{"".join(parts)}</svg>'
        f"<script>{HEIGHT_SCRIPT}</script></body></html>"
    )


def line_style(place: int) -> LineStyle:
    """The style of the relation at this place: a colour, and dashes after the last."""
    used, head = divmod(place, len(EDGE_COLORS))
    dashes = f' stroke-dasharray="{3 * used} 3"' if used else ""
    return LineStyle(head, f'stroke="{EDGE_COLORS[head]}"{dashes}')


def circle_radius(count: int) -> float:
    """Wide enough for two lines of text beside each of the nodes."""
    return max(90.0, count * 13.0)


def node_spots(
    nodes: tuple[GraphNode, ...], middle: Spot, radius: float
) -> dict[str, Spot]:
    """The nodes around the circle, the first one at the top."""
    turn = 2 * math.pi / max(len(nodes), 1)
    return {
        node.id: Spot(
            middle.x + radius * math.sin(turn * place),
            middle.y - radius * math.cos(turn * place),
        )
        for place, node in enumerate(nodes)
    }


def arrow_head(place: int, color: str) -> str:
    return (
        f'<marker id="head-{place}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
    )


def draw_edge(
    edge: GraphEdge, spots: dict[str, Spot], middle: Spot, style: LineStyle
) -> str:
    """An arrow, bent towards the middle, so that there and back are two."""
    start, end = spots[edge.source], spots[edge.target]
    side = Spot((start.y - end.y) * 0.12, (end.x - start.x) * 0.12)
    bend = Spot(
        (start.x + end.x) / 2 * 0.7 + middle.x * 0.3 + side.x,
        (start.y + end.y) / 2 * 0.7 + middle.y * 0.3 + side.y,
    )
    first, last = towards(start, bend), towards(end, bend)
    return (
        f'<path d="M{first.x:.1f} {first.y:.1f}Q{bend.x:.1f} {bend.y:.1f} '
        f'{last.x:.1f} {last.y:.1f}" fill="none" {style.stroke} stroke-width="1.8" '
        f'marker-end="url(#head-{style.head})"/>'
    )


def towards(start: Spot, end: Spot) -> Spot:
    """The place beside a node where an arrow begins or ends."""
    length = math.dist(start, end) or 1.0
    return Spot(
        start.x + (end.x - start.x) * GAP / length,
        start.y + (end.y - start.y) * GAP / length,
    )


def draw_node(node: GraphNode, spot: Spot, middle: Spot, unknown: str) -> str:
    """A dot with its name outside the circle and what it can do below."""
    aside = spot.x - middle.x
    anchor = "middle" if abs(aside) < 20 else "start" if aside > 0 else "end"
    shift = 0 if anchor == "middle" else math.copysign(DOT + 9, aside)
    above = anchor == "middle" and spot.y < middle.y
    drop = -32 if above else 26 if anchor == "middle" else 0
    x, y = spot.x + shift, spot.y + drop
    below = ", ".join(node.capabilities) if node.known else unknown
    return (
        f'<circle class="{"dot" if node.known else "dot unknown"}" cx="{spot.x:.1f}" '
        f'cy="{spot.y:.1f}" r="{DOT}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{label(node.name)}</text>'
        f'<text class="soft" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="{anchor}">'
        f"{label(below)}</text>"
    )


def label(text: str) -> str:
    return escape(text if len(text) <= 26 else text[:25] + "…")


def draw_legend(relation: str, style: LineStyle, top: float) -> str:
    return (
        f'<path d="M24 {top:.0f}h28" {style.stroke} stroke-width="3"/>'
        f'<text x="62" y="{top + 4:.0f}">{label(relation)}</text>'
    )
