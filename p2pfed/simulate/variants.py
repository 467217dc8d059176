"""Several studies side by side, in parallel over cores, in the order given.

Each runs in a process of its own, started afresh, so no state passes from one to the next and the
reports are those that single runs would give.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product

from p2pfed.errors import InputError
from p2pfed.simulate.report.model import Report
from p2pfed.simulate.study import Study, run_study, vary

VARIANTS_MAX = 1_000
"""More are refused: such a sweep is a mistake, or a programme of its own."""

_Failure = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A study and what it is called beside the others."""

    label: str
    study: Study


def spread_out(
    bases: Sequence[Variant], sweeps: Sequence[tuple[str, Sequence[str]]]
) -> tuple[Variant, ...]:
    """Every base under every combination of the sweeps' values, the last sweep running fastest.

    Args:
        bases: with an empty label if there is one only.
        sweeps: names and values as `vary` takes them.

    Raises:
        InputError: as `vary`; `workload-variants` for more than 1 000.
    """
    count = len(bases)
    for _, values in sweeps:
        count *= len(values)
    if count > VARIANTS_MAX:
        raise InputError(
            "workload-variants",
            f"{count} variants, more than {VARIANTS_MAX}",
            remedy="sweep fewer values at a time",
        )
    found = []
    for base in bases:
        for values in product(*(values for _, values in sweeps)):
            study, words = base.study, [base.label] if base.label else []
            for (name, _), value in zip(sweeps, values, strict=True):
                study = vary(study, name, value)
                words.append(f"{name}={value}")
            found.append(Variant(label=" ".join(words), study=study))
    return tuple(found)


def run_variants(
    variants: Sequence[Variant],
    *,
    workers: int = 0,
    done: Callable[[int], None] = lambda _count: None,
) -> list[Report]:
    """The reports, in the order of the variants.

    Args:
        variants: the studies.
        workers: processes at a time; 0 for one per core.
        done: called with the number of those that are finished.

    Raises:
        InputError: the first one that a study raised, in their order.
    """
    count = min(len(variants), workers or os.cpu_count() or 1)
    if count <= 1:
        return list(_run_here(variants, done))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
        futures = [pool.submit(_attempt, variant.study) for variant in variants]
        try:
            for finished, _ in enumerate(as_completed(futures), start=1):
                done(finished)
            return [_checked(future.result()) for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Lets Ctrl-C, which reaches all processes of a terminal, end a worker without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _attempt(study: Study) -> Report | _Failure:
    """An error as plain values: exceptions with named arguments don't pass between processes."""
    try:
        return run_study(study)
    except InputError as error:
        return error.code, error.what, error.where, error.remedy


def _checked(answer: Report | _Failure) -> Report:
    if isinstance(answer, Report):
        return answer
    code, what, where, remedy = answer
    raise InputError(code, what, where=where, remedy=remedy)


def _run_here(variants: Sequence[Variant], done: Callable[[int], None]) -> Iterable[Report]:
    for finished, variant in enumerate(variants, start=1):
        yield run_study(variant.study)
        done(finished)
