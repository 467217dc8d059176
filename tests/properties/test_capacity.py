"""Offers never promise what is not there, and nobody is sent away in vain."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pfed.execute.observation import LocalWish, Observation, SeenGuest, SeenNode
from p2pfed.shell.capacity.evict import Guest, to_evict
from p2pfed.shell.capacity.plan import Books, Held, Part, Promise, Site, plan
from p2pfed.shell.capacity.room import Shape, could_run
from p2pfed.shell.capacity.steady import Looks, Size, steady
from p2pfed.shell.sections import OfferTemplate

NOW_MS = 1_795_620_000_000
CORES, MEMORY, GPUS = 8, 8000, 2
SITE = Site(queue="guest", gpu_gres="gpu:a", cores_max=1 << 20, overhead_ms=60_000)
PARTS = ("t0", "t0.long", "t0.gap", "t1", "")


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    return Shape(
        cores=draw(st.sampled_from([1, 2, 4, 5, CORES])),
        gpus=draw(st.sampled_from([0, 0, 0, 1])),
        memory_mib=draw(st.sampled_from([0, 0, 1000, 4000])),
        gpu_type="a",
    )


@st.composite
def templates(draw: st.DrawFn, name: str) -> OfferTemplate:
    shape = draw(shapes())
    return OfferTemplate(
        name=name,
        follow=True,
        nodes=draw(st.sampled_from([20, 20, 20, 3, 1])),
        cores_per_node=shape.cores,
        gpus_per_node=shape.gpus,
        memory_mib_per_node=max(1, shape.memory_mib),
        walltime_max_s=draw(st.sampled_from([1800, 3600, 86_400])),
        keep_free=draw(st.sampled_from([0, 0, 0, 0, 1, 2])),
        share=draw(st.sampled_from([100, 100, 100, 60, 10])),
        long_share=draw(st.sampled_from([100, 50, 0])),
        cores=draw(st.sampled_from([0, 0, 0, 20])),
        gaps=draw(st.booleans()),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Observation, Books]:
    """Nodes with guests and local jobs on them; some guests are on their way."""
    count = draw(st.integers(1, 5))
    free = [Shape(CORES, GPUS, MEMORY)] * count
    held: list[Held] = []
    guests: list[SeenGuest] = []
    for number in range(draw(st.integers(0, 5))):
        shape, part = draw(shapes()), draw(st.sampled_from(PARTS))
        where = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=2, unique=True))
        fits = all(
            f.cores >= shape.cores and f.gpus >= shape.gpus and f.memory_mib >= shape.memory_mib
            for f in (free[w] for w in where)
        )
        name = f"g{number}" if draw(st.booleans()) and fits else ""
        held.append(Held(name=name, part=part, nodes=len(where), shape=shape))
        if name:
            guests.append(SeenGuest(name=name, nodes=tuple(f"n{w}" for w in sorted(where))))
            for w in where:
                f = free[w]
                free[w] = Shape(
                    f.cores - shape.cores, f.gpus - shape.gpus, f.memory_mib - shape.memory_mib
                )
    nodes = []
    for number, f in enumerate(free):
        up = draw(st.integers(0, 4)) > 0
        busy = draw(st.integers(0, f.cores)) if draw(st.integers(0, 3)) == 0 else 0
        nodes.append(
            SeenNode(
                name=f"n{number}",
                queues=("guest", "local") if draw(st.booleans()) else ("guest",),
                cores=CORES,
                memory_mib=MEMORY,
                gpus=(("a", GPUS),),
                idle_cores=f.cores - busy if up else 0,
                idle_memory_mib=f.memory_mib if up else 0,
                idle_gpus=(("a", f.gpus),) if up else (),
                planned=draw(st.booleans()),
            )
        )
    wishes = [
        LocalWish(
            job_id=str(number),
            queues=("local",),
            nodes=(width := draw(st.integers(1, 3))),
            cores=width * draw(st.integers(1, CORES)),
            whole_nodes=draw(st.booleans()),
            memory_mib=draw(st.sampled_from([0, 1, MEMORY // 2])),
            gpus=draw(st.integers(0, GPUS)),
            gpu_type=draw(st.sampled_from(["", "a", "b"])),
            start_s=draw(st.sampled_from([0, NOW_MS // 1000 + 5000, NOW_MS // 1000 + 100])),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    seen = Observation(nodes=tuple(nodes), guests=tuple(guests), wishes=tuple(wishes))
    promised = [
        Promise(nodes=draw(st.integers(1, 2)), shape=draw(shapes()))
        for _ in range(draw(st.integers(0, 1)))
    ]
    return seen, Books(held=tuple(held), promised=tuple(promised))


def free_of(part: Part, books: Books) -> Shape:
    """What others can still get of an offer: its size less what is held of it."""
    mine = [held for held in books.held if held.part == part.name]
    template = part.template
    cores = part.nodes * template.cores_per_node - sum(h.nodes * h.shape.cores for h in mine)
    gpus = part.nodes * template.gpus_per_node - sum(h.nodes * h.shape.gpus for h in mine)
    memory = part.nodes * template.memory_mib_per_node
    memory -= sum(h.nodes * h.shape.memory_mib for h in mine)
    if min(cores, memory) <= 0:
        return Shape(0, 0, 0)  # nobody gets anything of it
    return Shape(cores, max(0, gpus), memory)


two_st = st.tuples(templates("t0"), templates("t1"))


@given(two_st, worlds())
def test_offers_never_promise_more_than_there_is(
    two: tuple[OfferTemplate, OfferTemplate], world: tuple[Observation, Books]
) -> None:
    seen, books = world
    parts = plan(two, seen, books, NOW_MS, SITE)
    free = [free_of(part, books) for part in parts]
    assert sum(f.cores for f in free) <= sum(node.idle_cores for node in seen.nodes)
    assert sum(f.memory_mib for f in free) <= sum(node.idle_memory_mib for node in seen.nodes)
    idle_gpus = sum(count for node in seen.nodes for _, count in node.idle_gpus)
    assert sum(f.gpus for f in free) <= idle_gpus


@given(two_st, worlds())
def test_what_local_jobs_wait_for_is_offered_only_until_they_begin(
    two: tuple[OfferTemplate, OfferTemplate], world: tuple[Observation, Books]
) -> None:
    seen, books = world
    bare = plan(two, seen, Books(held=books.held), NOW_MS, SITE)
    endless = [free_of(part, books).cores for part in bare if not part.until_ms]
    # The first job alone takes what it can of at least one node, if there is one that could run it.
    first = 0
    if seen.wishes:
        wish = seen.wishes[0]
        idle = [n.idle_cores for n in seen.nodes if n.idle_cores and could_run(wish, n)]
        first = min(-(-wish.cores // wish.nodes), *idle) if idle else 0
    assert sum(endless) <= sum(node.idle_cores for node in seen.nodes) - first
    for part in bare:
        if part.name.endswith(".gap"):
            assert NOW_MS < part.until_ms <= min(w.start_s for w in seen.wishes if w.start_s) * 1000


@given(two_st, worlds())
def test_what_the_owner_keeps_is_kept(
    two: tuple[OfferTemplate, OfferTemplate], world: tuple[Observation, Books]
) -> None:
    seen, books = world
    parts = plan(two, seen, books, NOW_MS, SITE)
    for template in two:
        mine = [part for part in parts if part.template is template]
        nodes = sum(part.nodes for part in mine)
        assert nodes <= template.nodes
        assert not template.cores or nodes * template.cores_per_node <= template.cores
        free = sum(free_of(part, books).cores for part in mine)
        spared = sorted((node.idle_cores for node in seen.nodes), reverse=True)
        assert not free or free <= sum(spared) - template.keep_free * CORES
        for part in mine:
            long = part.walltime_max_s > 3600 and template.long_share < 100
            assert not long or part.nodes <= template.nodes * template.long_share // 100
            assert part.walltime_max_s <= template.walltime_max_s


@given(templates("t0"), worlds(), st.integers(0, 4))
def test_a_node_that_goes_away_never_makes_an_offer_grow(
    template: OfferTemplate, world: tuple[Observation, Books], which: int
) -> None:
    seen, books = world
    seen = replace(seen, wishes=())
    nodes = list(seen.nodes)
    lost = nodes[which % len(nodes)]
    nodes[which % len(nodes)] = replace(lost, idle_cores=0, idle_memory_mib=0, idle_gpus=())
    before = plan([template], seen, books, NOW_MS, SITE)
    after = plan([template], replace(seen, nodes=tuple(nodes)), books, NOW_MS, SITE)
    assert sum(part.nodes for part in after) <= sum(part.nodes for part in before)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), min_size=1, max_size=30))
def test_an_offer_never_exceeds_a_look_and_grows_only_into_what_stayed(
    steps: list[tuple[int, int]],
) -> None:
    template = OfferTemplate(name="t0", nodes=9, cores_per_node=1, memory_mib_per_node=1)
    looks: dict[str, Looks] = {}
    sizes: dict[str, Size] = {}
    history: list[tuple[int, int]] = []
    now_ms = NOW_MS
    for nodes, wait_s in steps:
        now_ms += wait_s * 1000
        history.append((now_ms, nodes))
        part = Part(name="t0", template=template, nodes=nodes, walltime_max_s=60, until_ms=0)
        before = sizes["t0"].nodes if "t0" in sizes else 0
        looks, found = steady(looks, [part], sizes, now_ms, 30_000)
        sizes = {p.name: Size(p.nodes, p.walltime_max_s, p.until_ms) for p in found}
        size = sizes["t0"].nodes if "t0" in sizes else 0
        assert size <= nodes
        if size > before:
            assert all(n >= size for at_ms, n in history if at_ms > now_ms - 30_000)
            assert now_ms - history[0][0] >= 30_000


@given(worlds(), st.data())
def test_nobody_is_sent_away_in_vain_or_twice(
    world: tuple[Observation, Books], data: st.DataObject
) -> None:
    seen, books = world
    guests = [
        Guest(
            name=held.name,
            started_ms=data.draw(st.integers(0, 5)),
            shape=held.shape,
            leaving=data.draw(st.booleans()),
        )
        for held in books.held
        if held.name and data.draw(st.booleans())
    ]
    going = to_evict(seen, guests)
    assert len(set(going)) == len(going)
    assert set(going) <= {guest.name for guest in guests if not guest.leaving}
    assert seen.wishes or not going
    if going:
        # Once they and those that leave are gone, at least one more local job has its nodes.
        gone = {*going, *(guest.name for guest in guests if guest.leaving)}
        before = {
            node.name: Shape(
                node.idle_cores, dict(node.idle_gpus).get("a", 0), node.idle_memory_mib
            )
            for node in seen.nodes
            if "local" in node.queues
        }
        after = dict(before)
        # A node that completes shows nothing idle: all of it is expected of who leaves there.
        leaving = {guest.name for guest in guests if guest.leaving}
        completing = {
            name
            for native in seen.guests
            if native.name in leaving
            for name in native.nodes
            if name in before and not before[name].memory_mib
        }
        for native in seen.guests:
            for name in native.nodes if native.name in gone else ():
                if name in after:
                    held = next(h.shape for h in books.held if h.name == native.name)
                    after[name] = Shape(
                        after[name].cores + held.cores,
                        after[name].gpus + held.gpus,
                        after[name].memory_mib + held.memory_mib,
                    )
        after |= {n: after[n]._replace(gpus=GPUS, memory_mib=MEMORY) for n in completing}
        assert any(serve(wish, after) for wish in seen.wishes)
        assert not all(serve(wish, before) for wish in seen.wishes)


def serve(wish: LocalWish, idle: dict[str, Shape]) -> bool:
    """Whether what is idle is enough for the job."""
    cores = CORES if wish.whole_nodes else -(-wish.cores // wish.nodes)
    able = [
        name
        for name, has in idle.items()
        if has.cores >= cores
        and has.memory_mib >= wish.memory_mib
        and (not wish.gpus or (has.gpus >= wish.gpus and wish.gpu_type != "b"))
    ]
    return len(able) >= wish.nodes
