"""The demonstration: a whole federation of real daemons on one machine, in a fresh folder.

It is what a user would do by hand, in the order of docs/tutorial/first-federation.md: make centres
(`founding`), run their daemons (`daemons`), offer capacity, submit jobs and follow them (`story`),
then let every ledger be audited and compared (`verdict`). What is done is decided beforehand
(`plan`), what is shown while it happens is up to a `Stage`; the result is a `DemoReport`.
"""

from p2pfed.shell.demo.assembly import GOVERNED, GOVERNED_CENTRES
from p2pfed.shell.demo.board import Board, Stage
from p2pfed.shell.demo.plan import CENTRES_MAX, JOBS_MAX, plan_demo
from p2pfed.shell.demo.report import DemoReport
from p2pfed.shell.demo.story import run_demo

__all__ = [
    "CENTRES_MAX",
    "GOVERNED",
    "GOVERNED_CENTRES",
    "JOBS_MAX",
    "Board",
    "DemoReport",
    "Stage",
    "plan_demo",
    "run_demo",
]
