"""Why a template offers nothing right now, in words for the people of a centre; pure."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfed.shell.capacity.plan import Part, Site, part_names
from p2pfed.shell.sections import OfferTemplate


def why_nothing(
    template: OfferTemplate, parts: Sequence[Part], waiting: int, now_ms: int, site: Site
) -> str:
    """Why offers of a template that follows are closed or hold nobody.

    Args:
        template: follows the batch system, and nobody's order keeps it closed.
        parts: what the last look planned, of all templates.
        waiting: local jobs that waited for capacity then.
        now_ms: the time of that look.
        site: as it was planned with.
    """
    mine = [part for part in parts if part.name in part_names(template)]
    if not mine:
        horizon_ms = now_ms + template.walltime_max_s * 1000 + site.overhead_ms
        if template.times.end_ms(now_ms, horizon_ms) is None:
            return "its windows are closed now"
        return "its window, or its shortest walltime, leaves too little time for a job"
    if not any(part.nodes for part in mine):
        reasons = dict.fromkeys(part.why for part in mine[:1] if part.why)
        if waiting:
            reasons[f"{waiting} local jobs wait for capacity, and come first"] = None
        return "; ".join(reasons)
    nodes = sum(part.nodes for part in mine)
    return f"{nodes} nodes are free for it, and it waits whether they stay so"
