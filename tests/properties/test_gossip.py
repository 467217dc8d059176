"""Design invariants 5 and 6 over wires: everybody ends with the same blocks, each link once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.ids import CentreName
from tests.mesh import Mesh

NAMES = ("ash", "birch", "cedar", "elm", "fir")
names = st.sampled_from(NAMES)
moves = st.one_of(
    st.tuples(st.just("write"), names, names),
    st.tuples(st.just("write"), names, names),
    st.tuples(st.just("flow"), names, names),
    st.tuples(st.just("cut"), names, names),
    st.tuples(st.just("heal"), names, names),
    st.tuples(st.just("restart"), names, names),
    st.tuples(st.just("wait"), names, names),
)


def play(mesh: Mesh, move: str, one: str, other: str) -> None:
    match move:
        case "write":
            mesh.write(one)
        case "flow":
            for _ in range(mesh.rng.randrange(30)):
                mesh.flow_once()
        case "cut" if one != other:
            mesh.cut(one, other)
        case "heal":
            mesh.heal()
        case "restart":
            mesh.restart(one)
        case "wait":
            mesh.settle(mesh.rng.choice((100, 1_000, 15_000)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 20),
    active_peers=st.sampled_from((2, 16)),
    chunk_bytes_max=st.sampled_from((7, 300, 1 << 16)),
    story=st.lists(moves, max_size=60),
)
def test_peers_that_can_meet_again_end_with_the_same_blocks_and_no_link_carries_one_twice(
    seed: int, active_peers: int, chunk_bytes_max: int, story: list[tuple[str, str, str]]
) -> None:
    mesh = Mesh(NAMES, seed, active_peers)
    mesh.chunk_bytes_max = chunk_bytes_max
    for move, one, other in story:
        play(mesh, move, one, other)
    mesh.heal()
    mesh.settle(150_000)  # the longest backoff and some pings
    assert mesh.converged()
    assert mesh.crossings_max() <= 1
    assert [note for peer in mesh.peers.values() for note in peer.notes] == []


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20), rounds=st.integers(1, 20))
def test_in_a_calm_mesh_each_block_reaches_each_peer_exactly_once(seed: int, rounds: int) -> None:
    mesh = Mesh(NAMES, seed)
    mesh.settle(5_000)
    for _ in range(rounds):
        mesh.write(mesh.rng.choice(NAMES))
        for _ in range(mesh.rng.randrange(20)):
            mesh.flow_once()
    mesh.settle(30_000)
    assert mesh.converged()
    crossings = sum(wire.crossed.total() for wire in mesh.all_wires())
    assert crossings == rounds * (len(NAMES) - 1)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1 << 20),
    lacking=st.integers(1, 120),
    writing=st.booleans(),
)
def test_who_comes_back_downloads_what_it_lacks_and_a_tenth_more_at_most(
    seed: int, lacking: int, writing: bool
) -> None:
    mesh = Mesh(NAMES, seed)
    mesh.settle(5_000)
    for name in NAMES[1:]:
        mesh.cut(NAMES[0], name)
    for _ in range(lacking):
        mesh.write(mesh.rng.choice(NAMES[1:]))
        mesh.flow()
    before = mesh.block_bytes_to(NAMES[0])
    mesh.heal()
    while writing and mesh.rng.randrange(5):
        mesh.write(mesh.rng.choice(NAMES[1:]))
        mesh.settle(1_000)
    mesh.settle(150_000)
    assert mesh.converged()
    everything = mesh.peers[CentreName(NAMES[1])].blocks.values()
    lacked = sum(len(block.data) for block in everything)  # it wrote and had nothing itself
    assert mesh.block_bytes_to(NAMES[0]) - before <= lacked * 11 // 10
