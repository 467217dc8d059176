"""Small clusters and templates for tests of planning."""

from __future__ import annotations

from typing import Any

from p2pfed.execute.observation import LocalWish, Observation, SeenGuest, SeenNode
from p2pfed.shell.capacity.plan import Books, Held, Part, Site, plan
from p2pfed.shell.capacity.room import Shape
from p2pfed.shell.sections import OfferTemplate

NOW_MS = 1_795_620_000_000  # Wednesday, 25 November 2026, 15:20 UTC
SITE = Site(queue="guest", gpu_gres="gpu", cores_max=1 << 20, overhead_ms=60_000)
WHOLE = Shape(cores=4, gpus=0, memory_mib=1000)


def template(**changes: Any) -> OfferTemplate:
    """A template that follows, of nodes of four cores, for jobs of at most two hours."""
    values: dict[str, Any] = {
        "name": "idle",
        "follow": True,
        "nodes": 100,
        "cores_per_node": 4,
        "memory_mib_per_node": 1000,
        "walltime_max_s": 7200,
        "long_share": 100,
    }
    return OfferTemplate(**{**values, **changes})


def node(number: int, idle: int = 4, **changes: Any) -> SeenNode:
    """A node of four cores, of which some are idle."""
    values: dict[str, Any] = {
        "name": f"n{number}",
        "queues": ("guest", "local"),
        "cores": 4,
        "memory_mib": 4000,
        "idle_cores": idle,
        "idle_memory_mib": 1000 * idle,
    }
    return SeenNode(**{**values, **changes})


def seen(
    *nodes: SeenNode, guests: dict[str, list[str]] | None = None, **changes: Any
) -> Observation:
    """A look at these nodes."""
    found = [SeenGuest(name=n, nodes=tuple(where)) for n, where in sorted((guests or {}).items())]
    return Observation(nodes=nodes, guests=tuple(found), **changes)


def wish(nodes: int = 1, cores: int = 4, **changes: Any) -> LocalWish:
    """A local job that waits."""
    return LocalWish(job_id="1", queues=("local",), nodes=nodes, cores=cores, **changes)


def held(name: str, part: str = "idle", nodes: int = 1, cores: int = 4) -> Held:
    """A claim on an offer of ours."""
    return Held(name=name, part=part, nodes=nodes, shape=Shape(cores, 0, 250 * cores))


def planned(
    look: Observation,
    *templates: OfferTemplate,
    books: Books | None = None,
    now_ms: int = NOW_MS,
    site: Site = SITE,
) -> dict[str, Part]:
    """The parts that a plan wants, by name."""
    parts = plan(templates or (template(),), look, books or Books(), now_ms, site)
    assert len({part.name for part in parts}) == len(parts)
    return {part.name: part for part in parts}
