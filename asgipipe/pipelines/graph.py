"""The graph of a pipeline's steps, read from its syntax tree without running anything."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

from asgipipe.pipelines.callables import StepLike, is_pipeline
from asgipipe.pipelines.flow import read
from asgipipe.pipelines.reading import Reading, StepCall


@dataclass(frozen=True, slots=True)
class Node:
    """One place where a step, or a pipeline inside the pipeline, is called.

    `id` is the step's name, numbered from the second call on (`clean`, `clean_2`). `branch`: it may be left out;
    `loop`: it may run several times; `dynamic`: which step runs, or whether one does, is only known at run time.
    """

    id: str
    step: str
    kind: Literal["step", "pipeline"] = "step"
    branch: bool = False
    loop: bool = False
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """The result of `source` is in an argument of `target`."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order of the calls; an edge that points backwards is what a loop hands to its next turn.

    `dynamic` says that there may be more than what is shown. `steps` are those that the nodes stand for, as far as they
    are known.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    dynamic: bool = False
    steps: tuple[StepLike, ...] = field(default=(), compare=False, repr=False)

    def as_json(self) -> dict[str, object]:
        """Return the object that `/info` shows: `nodes`, `edges` and `dynamic`, each with the fields of its class."""
        nodes, edges = map(asdict, self.nodes), map(asdict, self.edges)
        return {"nodes": list(nodes), "edges": list(edges), "dynamic": self.dynamic}


def read_graph(function: Callable[..., object]) -> Graph:
    """Read the graph of a pipeline's function, or of any callable.

    Never raises: where the source is not at hand the graph is empty and dynamic, and one with more than 2000 nodes is
    cut and dynamic.
    """
    reading = Reading(follows=True)
    read(function, reading)
    nodes = tuple(_node(identifier, call) for identifier, call in reading.steps.items())
    edges = tuple(Edge(*flow) for flow in reading.flows)
    steps = tuple(call.step for call in reading.steps.values() if call.step is not None)
    return Graph(nodes, edges, not reading.complete or any(node.dynamic for node in nodes), steps)


def _node(identifier: str, call: StepCall) -> Node:
    kind: Literal["step", "pipeline"] = "pipeline" if is_pipeline(call.step) else "step"
    place = call.place
    return Node(identifier, call.name, kind, place.branch, place.loop, place.dynamic)
