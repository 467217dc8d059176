from __future__ import annotations

import pytest

from p2pfed.core.matching_fit import (
    CAPACITY_CODES,
    TERMS_CODES,
    Amount,
    OfferState,
    amount_of,
    capacity_of,
    end_ms,
    fits,
)
from p2pfed.core.queue import Shape
from tests.unit.core.federation_in_brief import (
    ALPHA,
    BETA,
    CUT_MS,
    RULES,
    SLACK_MS,
    offer,
    shape,
)

# What keeps a job out, and the last value that does not: (breaking pair, fitting pair).
CONSTRAINTS: dict[str, tuple[tuple[Shape, OfferState], tuple[Shape, OfferState]]] = {
    "own-offer": ((shape(), offer(host=ALPHA)), (shape(), offer(host=BETA))),
    "resource-class": (
        (shape(resource_class="gpu"), offer()),
        (shape(resource_class="gpu"), offer(resource_class="gpu")),
    ),
    "nodes": ((shape(nodes=3), offer(nodes=2)), (shape(nodes=3), offer(nodes=3))),
    "cores-per-node": (
        (shape(cores_per_node=9), offer(nodes=2)),
        (shape(cores_per_node=8), offer(nodes=2)),
    ),
    "gpus-per-node": (
        (shape(gpus_per_node=2), offer(gpus=1, nodes=2)),
        (shape(gpus_per_node=1), offer(gpus=1, nodes=2)),
    ),
    "memory-per-node": (
        (shape(memory_mib_per_node=101), offer(nodes=2)),
        (shape(memory_mib_per_node=100), offer(nodes=2)),
    ),
    "walltime": (
        (shape(walltime_s=101), offer(walltime_max_s=100)),
        (shape(walltime_s=100), offer(walltime_max_s=100)),
    ),
    "window": (
        (shape(), offer(until_ms=CUT_MS + SLACK_MS + 99_999)),
        (shape(), offer(until_ms=CUT_MS + SLACK_MS + 100_000)),
    ),
    "features": (
        (shape(features=("apptainer", "mpi")), offer(features=("mpi",))),
        (shape(features=("mpi",)), offer(features=("apptainer", "mpi"))),
    ),
    "work-class": (
        (shape(work_class="low"), offer(classes=("normal",))),
        (shape(work_class="low"), offer(classes=())),
    ),
    "data-class": (
        (shape(data_class="personal"), offer(data_classes=("open",))),
        (shape(data_class="personal"), offer(data_classes=("open", "personal"))),
    ),
    "offer-allow": (
        (shape(), offer(allow=("gamma",))),
        (shape(), offer(allow=("alpha", "gamma"))),
    ),
    "offer-deny": ((shape(), offer(deny=("alpha",))), (shape(), offer(deny=("gamma",)))),
    "job-allow": ((shape(allow=("gamma",)), offer()), (shape(allow=("beta",)), offer())),
    "job-deny": ((shape(deny=("beta",)), offer()), (shape(deny=("gamma",)), offer())),
    "declined": (
        (shape(declined=(offer(7).offer_id,)), offer(7)),
        (shape(declined=(offer(8).offer_id,)), offer(7)),
    ),
    "preemptible": (
        (shape(no_preempt=True), offer(preemptible=True)),
        (shape(no_preempt=True), offer(preemptible=False)),
    ),
    "min-balance": ((shape(), offer(min_balance=1)), (shape(), offer(min_balance=0))),
    "per-centre-cap": (
        (shape(cores_per_node=3), offer(per_centre_cores=4, held_cores={ALPHA: 2})),
        (shape(cores_per_node=2), offer(per_centre_cores=4, held_cores={ALPHA: 2, BETA: 3})),
    ),
    "no-cores": (
        (shape(cores_per_node=4), offer(used=[(5, 10)])),
        (shape(cores_per_node=4), offer(used=[(4, 10)])),
    ),
}


@pytest.mark.parametrize("code", CONSTRAINTS)
def test_a_pair_that_breaks_one_constraint_gets_its_code(code: str) -> None:
    broken, _ = CONSTRAINTS[code]
    assert fits(*broken, CUT_MS, 0, RULES) == (code,)


@pytest.mark.parametrize("code", CONSTRAINTS)
def test_a_pair_that_just_meets_the_constraint_fits(code: str) -> None:
    _, whole = CONSTRAINTS[code]
    assert fits(*whole, CUT_MS, 0, RULES) == ()


def test_every_constraint_but_the_free_amounts_is_in_the_table() -> None:
    assert set(TERMS_CODES) <= set(CONSTRAINTS)


def test_a_full_offer_names_all_that_it_lacks() -> None:
    full = offer(gpus=1)
    object.__setattr__(full, "free", Amount(0, 0, 0, 0))
    wanted = shape(gpus_per_node=1)
    assert fits(wanted, full, CUT_MS, 0, RULES) == CAPACITY_CODES


def test_a_job_takes_its_parts_times_its_nodes() -> None:
    wide = shape(nodes=3, cores_per_node=2, gpus_per_node=1, memory_mib_per_node=5)
    assert amount_of(wide) == Amount(3, 6, 3, 15)


def test_nodes_are_shared_so_nodes_in_use_keep_nobody_out() -> None:
    state = offer(nodes=2)
    object.__setattr__(state, "free", Amount(0, 8, 0, 100))
    assert fits(shape(nodes=2), state, CUT_MS, 0, RULES) == ()


def test_what_an_offer_has_follows_its_present_size() -> None:
    assert capacity_of(offer(nodes=4, gpus=2).terms, 3) == Amount(3, 24, 6, 300)


def test_a_job_ends_after_the_claim_the_run_and_the_kill() -> None:
    assert end_ms(5, 100, RULES) == 5 + RULES.claim_wait_ms + 100_000 + RULES.kill_grace_ms
