"""Replay of real workloads: what would a federation have changed?

Traces come in (`swf`, `sacct`, `lublin`), are put on one time axis (`workload`), and are run
through three worlds: every centre alone and all under one scheduler (`easy`, `ideal`), and
federated (`federated`). `metrics` says how the three compare.
"""

from __future__ import annotations

from p2pfed.simulate.workload.federated import Progress, run_federated
from p2pfed.simulate.workload.ideal import run_ideal, run_isolated
from p2pfed.simulate.workload.lublin import synthetic_trace
from p2pfed.simulate.workload.metrics import Comparison, SizeClass, Summary, compare, size_classes
from p2pfed.simulate.workload.options import PREEMPTIBLE, CentrePolicy, FederationOptions
from p2pfed.simulate.workload.outcome import BalanceSample, Outcome
from p2pfed.simulate.workload.reading import read_trace
from p2pfed.simulate.workload.trace import Trace, TraceJob
from p2pfed.simulate.workload.workload import Alignment, Shaping, Workload, make_workload

__all__ = [
    "PREEMPTIBLE",
    "Alignment",
    "BalanceSample",
    "CentrePolicy",
    "Comparison",
    "FederationOptions",
    "Outcome",
    "Progress",
    "Shaping",
    "SizeClass",
    "Summary",
    "Trace",
    "TraceJob",
    "Workload",
    "compare",
    "make_workload",
    "read_trace",
    "run_federated",
    "run_ideal",
    "run_isolated",
    "size_classes",
    "synthetic_trace",
]
