"""Every exception that p2pfed raises on purpose, as one tree.

Who is at fault decides the branch: `InputError` is the fault of whoever sent the input (a peer, a
file, a user), `StateError` is a request that can't be met in the present state, `StorageError` is
the disk's, `ExecutorError` the batch system's. Each error names *what* is wrong, *where*, and *what
to do*; its `code` is stable, listed in docs/reference/errors.md, and never reused.

Decoders and verifiers raise `InputError` and nothing else. Unless its docstring says otherwise, an
operation that raises leaves the state unchanged.
"""

from __future__ import annotations


class P2pfedError(Exception):
    """An error with a stable code, a place and a remedy.

    Args:
        code: stable, lower case, words joined by hyphens (`block-bad-signature`).
        what: one sentence without a full stop: what is wrong, with the offending value.
        where: the file and line, field, peer or record concerned; empty if `what` says it.
        remedy: what the reader can do about it; empty if nothing can be done.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what} [{self.code}]"

    def diagnostics(self) -> str:
        """The message shown to people: one line each for what, where and what to do."""
        lines = [f"error: {self.what} [{self.code}]"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.remedy:
            lines.append(f"  to do: {self.remedy}")
        return "\n".join(lines)


class InputError(P2pfedError):
    """Input that breaks a rule; its sender must change it."""

    exit_code = 2


class StateError(P2pfedError):
    """A well-formed request that can't be met now (unknown job, closed offer, recovering)."""

    exit_code = 3


class StorageError(P2pfedError):
    """The disk or the database refused; nothing that was acknowledged is affected."""

    exit_code = 4


class ExecutorError(P2pfedError):
    """The batch system refused or answered in a way that can't be used.

    Args:
        transient: True if the same call may succeed later without anyone changing anything.
    """

    exit_code = 5

    def __init__(
        self, code: str, what: str, *, where: str = "", remedy: str = "", transient: bool = False
    ) -> None:
        super().__init__(code, what, where=where, remedy=remedy)
        self.transient = transient


class ControlError(P2pfedError):
    """The daemon can't be asked: it does not run, does not answer, or the caller may not ask."""

    exit_code = 6
