"""The control API's client: what the command line asks the daemon with.

Synchronous, one request at a time, over the daemon's Unix socket. An error that the daemon answers
with is raised here as the same exception; a daemon that can't be asked is a `ControlError`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast
from urllib.parse import quote

import httpx

from p2pfed.errors import ControlError, InputError
from p2pfed.shell.answers import (
    BalanceView,
    ControlView,
    CountersView,
    DecisionView,
    DisclosureView,
    Explanation,
    JobDetail,
    JobView,
    MemberView,
    Notice,
    OfferView,
    PeerView,
    ReconcileView,
    RequestView,
    StatusView,
    TemplateView,
)
from p2pfed.shell.api.errors import error_from
from p2pfed.shell.council_answers import DisputeView, ProposalView, VersionView, WhyView
from p2pfed.shell.rekeying import RotationView

ANSWER_TIMEOUT_S: Final = 60
"""Between two bytes of an answer; a submission waits for the disk."""
_COPY_BYTES: Final = 1 << 20


class Client:
    """A connection to the daemon behind the socket `path`; use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Connects when the block is entered."""
        self.path = path
        self._http = httpx.Client(
            # There is no TLS on a Unix socket; reading the system's CA bundle takes 50 ms.
            transport=httpx.HTTPTransport(uds=str(path), verify=False),
            base_url="http://p2pfed/v1",
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=5),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        """The client itself, after a first knock at the door.

        Raises:
            ControlError: `daemon-unreachable`, `daemon-denied`.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
                knock.connect(str(self.path))
        except PermissionError as error:
            raise ControlError(
                "daemon-denied",
                "you may not talk to this daemon",
                where=str(self.path),
                remedy="ask the centre's administrator: [control] group in centre.toml",
            ) from error
        except OSError as error:
            raise ControlError(
                "daemon-unreachable",
                "no daemon answers at the control socket",
                where=str(self.path),
                remedy="start it: p2pfed daemon --config centre.toml",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        self._http.close()

    def status(self) -> StatusView:
        """The daemon at a glance."""
        return cast(StatusView, self._call("GET", "/status"))

    def peers(self) -> list[PeerView]:
        """The other centres as this daemon is connected to them."""
        return cast(list[PeerView], self._call("GET", "/peers")["peers"])

    def members(self) -> list[MemberView]:
        """The centres of the federation."""
        return cast(list[MemberView], self._call("GET", "/members")["members"])

    def offers(self, *, own: bool = False) -> list[OfferView]:
        """The offers that are visible, or with `own` this centre's."""
        path = "/offers/own" if own else "/offers"
        return cast(list[OfferView], self._call("GET", path)["offers"])

    def own_offers(self) -> tuple[list[OfferView], list[TemplateView]]:
        """This centre's offers, closed ones too, and the templates that they are made from."""
        found = self._call("GET", "/offers/own")
        return cast(list[OfferView], found["offers"]), cast(list[TemplateView], found["templates"])

    def open_offer(self, **wanted: object) -> OfferView:
        """Opens an offer: `template` (and `nodes`, `until_ms`), or `terms`."""
        return cast(OfferView, self._call("POST", "/offers", json=wanted)["offer"])

    def close_offers(self, offer_id: str | None, *, reason: str = "") -> list[str]:
        """Closes one offer, or with None all; the ids of those that it closed."""
        path = "/offers" if offer_id is None else f"/offers/{quote(offer_id)}"
        answer = self._call("DELETE", path, params={"reason": reason})
        return cast(list[str], answer["closed"])

    def jobs(
        self, *, scope: str = "own", states: Iterable[str] = (), limit: int = 1000
    ) -> list[JobView]:
        """The newest jobs of a scope, at most `limit`."""
        params = {"scope": scope, "state": ",".join(states), "limit": str(limit)}
        return cast(list[JobView], self._call("GET", "/jobs", params=params)["jobs"])

    def job(self, job_id: str) -> JobDetail:
        """A job and its attempts."""
        return cast(JobDetail, self._call("GET", f"/jobs/{quote(job_id)}"))

    def cancel(self, job_id: str) -> JobView:
        """Cancels a job; the cancellation is durable when this returns."""
        return cast(JobView, self._call("POST", f"/jobs/{quote(job_id)}/cancel")["job"])

    def explain(self, job_id: str) -> Explanation:
        """Why a job is where it is."""
        return cast(Explanation, self._call("GET", f"/jobs/{quote(job_id)}/explain"))

    def balance(self) -> list[BalanceView]:
        """Every centre's account."""
        return cast(list[BalanceView], self._call("GET", "/balance")["balances"])

    def counters(self) -> CountersView:
        """The raw counters behind the accounts, at the cut of the newest round."""
        return cast(CountersView, self._call("GET", "/counters"))

    def submit(
        self, request: Mapping[str, object], script: Path, inputs: Mapping[str, Path]
    ) -> tuple[JobView, list[str]]:
        """Posts a job; it is durable when this returns.

        Args:
            request: fields of the request as docs/reference/openapi.json has them.
            script: the batch script.
            inputs: files by their path in the working folder.

        Returns:
            The job, and remarks about what the script asks for and does not get.

        Raises:
            InputError: `input-file`: a file can't be read; or what the daemon found wrong.
        """
        with ExitStack() as stack:

            def part(path: Path) -> BinaryIO:
                try:
                    return stack.enter_context(path.open("rb"))
                except OSError as error:
                    raise InputError(
                        "input-file", f"can't read the file: {error.strerror}", where=str(path)
                    ) from error

            files: list[tuple[str, tuple[str | None, Any, str]]] = [
                ("request", (None, json.dumps(request).encode(), "application/json")),
                ("script", (script.name, part(script), "application/octet-stream")),
            ]
            for name, path in inputs.items():
                files.append(("input", (name, part(path), "application/octet-stream")))
            answer = self._call("POST", "/jobs", files=files)
        return cast(JobView, answer["job"]), cast(list[str], answer["remarks"])

    # Orders

    def control(self) -> ControlView:
        """The orders of this centre's people that are in force."""
        return cast(ControlView, self._call("GET", "/control"))

    def set_mode(self, mode: str, *, reason: str = "") -> ControlView:
        """Orders `open`, `paused`, `draining` or `withdrawn`."""
        answer = self._call("POST", "/control", json={"mode": mode, "reason": reason})
        return cast(ControlView, answer)

    def block(self, centre: str, *, blocked: bool, reason: str = "") -> ControlView:
        """Takes no jobs of a centre any more, or takes them again."""
        method = "POST" if blocked else "DELETE"
        path = f"/control/blocked/{quote(centre)}"
        return cast(ControlView, self._call(method, path, json={"reason": reason}))

    def reload(self) -> list[str]:
        """Has `centre.toml` read again; the changed keys that wait for a restart."""
        return cast(list[str], self._call("POST", "/control/reload")["restart"])

    def hold(self, job_id: str, *, held: bool, reason: str = "") -> JobView:
        """Keeps an own job from being placed, or lets it be placed again."""
        path = f"/jobs/{quote(job_id)}/{'hold' if held else 'release'}"
        return cast(JobView, self._call("POST", path, json={"reason": reason})["job"])

    def requests(self) -> list[RequestView]:
        """Guests' jobs that wait for an answer."""
        return cast(list[RequestView], self._call("GET", "/requests")["requests"])

    def answer(self, claim_id: str, *, approve: bool, reason: str = "") -> None:
        """Approves or denies a guest's job that waits."""
        body = {"approve": approve, "reason": reason}
        self._call("POST", f"/requests/{quote(claim_id)}", json=body)

    def decisions(self, *, limit: int = 100) -> list[DecisionView]:
        """The newest decisions of this centre alone, newest first."""
        answer = self._call("GET", "/decisions", params={"limit": str(limit)})
        return cast(list[DecisionView], answer["decisions"])

    # Who jobs are of

    def disclose(self, job_id: str) -> DisclosureView:
        """Who an own job is of, verifiably against the ledger."""
        answer = self._call("POST", f"/jobs/{quote(job_id)}/disclosure")
        return cast(DisclosureView, answer["disclosure"])

    def forget(self, user: str) -> int:
        """Forgets a user for good; how many jobs' names were erased."""
        return cast(int, self._call("POST", "/forget", json={"user": user})["jobs"])

    # Decisions of the members

    def proposals(self) -> list[ProposalView]:
        """Every proposal, the newest first."""
        return cast(list[ProposalView], self._call("GET", "/proposals")["proposals"])

    def proposal(self, proposal_id: str) -> ProposalView:
        """One proposal."""
        answer = self._call("GET", f"/proposals/{quote(proposal_id)}")
        return cast(ProposalView, answer["proposal"])

    def propose(self, kind: str, **wanted: object) -> ProposalView:
        """Proposes, with the fields of POST /proposals; what is None is left out."""
        body = {"kind": kind, **{k: v for k, v in wanted.items() if v is not None}}
        return cast(ProposalView, self._call("POST", "/proposals", json=body)["proposal"])

    def vote(self, proposal_id: str, *, in_favour: bool, reason: str = "") -> ProposalView:
        """Votes on a proposal."""
        body = {"in_favour": in_favour, "reason": reason}
        answer = self._call("POST", f"/proposals/{quote(proposal_id)}/vote", json=body)
        return cast(ProposalView, answer["proposal"])

    def withdraw_proposal(self, proposal_id: str) -> ProposalView:
        """Takes an own proposal back."""
        answer = self._call("POST", f"/proposals/{quote(proposal_id)}/withdraw")
        return cast(ProposalView, answer["proposal"])

    def rotate_key(self) -> RotationView:
        """Makes a key for this centre and goes over to it."""
        return cast(RotationView, self._call("POST", "/key/rotate")["key"])

    def declare_epoch(self, *, reason: str, epoch: int | None = None) -> int:
        """Begins a new epoch without a vote, where there are at most two members."""
        body = {"reason": reason, **({} if epoch is None else {"epoch": epoch})}
        return cast(int, self._call("POST", "/epochs", json=body)["epoch"])

    def leave(self, *, reason: str = "") -> str:
        """Ends this centre's membership."""
        return cast(str, self._call("POST", "/leave", json={"reason": reason})["leave"])

    def rules(self, proposal_id: str | None = None) -> dict[str, Any]:
        """The rules that hold, or those that a proposal carries."""
        path = "/rules" if proposal_id is None else f"/proposals/{quote(proposal_id)}/rules"
        return cast(dict[str, Any], self._call("GET", path)["rules"])

    def versions(self) -> list[VersionView]:
        """Every version of what holds, the charter first."""
        return cast(list[VersionView], self._call("GET", "/versions")["versions"])

    def why(self, centre: str | None = None) -> WhyView:
        """Why a centre is or is not a member; without one, why these rules hold."""
        path = "/rules/why" if centre is None else f"/members/{quote(centre)}/why"
        return cast(WhyView, self._call("GET", path))

    def invitation(self) -> dict[str, Any]:
        """What a newcomer needs: `charter`, `invited_by`, `contacts`."""
        return self._call("GET", "/invitation")

    def disputes(self) -> list[DisputeView]:
        """Every disputed claim, the newest first."""
        return cast(list[DisputeView], self._call("GET", "/disputes")["disputes"])

    def dispute(self, job_id: str, **wanted: object) -> DisputeView:
        """Disputes the usage of a job's last run: `core_s`, `gpu_s`, `reason`."""
        body = {k: v for k, v in wanted.items() if v is not None}
        answer = self._call("POST", f"/jobs/{quote(job_id)}/dispute", json=body)
        return cast(DisputeView, answer["dispute"])

    def settle(self, claim_id: str, *, core_s: int, gpu_s: int = 0) -> DisputeView:
        """Offers to settle a dispute at these amounts."""
        body = {"core_s": core_s, "gpu_s": gpu_s}
        answer = self._call("POST", f"/disputes/{quote(claim_id)}/settle", json=body)
        return cast(DisputeView, answer["dispute"])

    def reconcile(self, *, since_ms: int) -> ReconcileView:
        """How the ledger and the batch system's accounting agree about the guests."""
        answer = self._call("GET", "/reconcile", params={"since_ms": str(since_ms)})
        return cast(ReconcileView, answer)

    # Files and streams

    def files(self, job_id: str) -> dict[str, Any]:
        """The result's files: `stdout`, `stderr` and `files` with `path` and `size`."""
        return self._call("GET", f"/jobs/{quote(job_id)}/files")

    def output(self, job_id: str, *, stream: str = "stdout") -> Iterator[bytes]:
        """What the job wrote to `stdout` or `stderr`, in pieces."""
        return self._pieces(f"/jobs/{quote(job_id)}/output", {"stream": stream})

    def file(self, job_id: str, path: str) -> Iterator[bytes]:
        """One file of the result, in pieces."""
        return self._pieces(f"/jobs/{quote(job_id)}/files/{quote(path)}", {})

    def ledger(self) -> Iterator[bytes]:
        """The ledger export, in pieces."""
        return self._pieces("/ledger", {})

    @contextmanager
    def watch(self) -> Iterator[Iterator[Notice]]:
        """The live feed; when the block is entered, nothing that follows is missed."""
        with (
            self._unreachable(),
            self._http.stream("GET", "/events", timeout=httpx.Timeout(5, read=None)) as answer,
        ):
            self._check(answer)
            lines = answer.iter_lines()
            next(lines, "")
            yield _notices(lines)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._unreachable():
            answer = self._http.request(method, path, **options)
        self._check(answer)
        return cast(dict[str, Any], answer.json())

    def _pieces(self, path: str, params: Mapping[str, str]) -> Iterator[bytes]:
        with self._unreachable(), self._http.stream("GET", path, params=params) as answer:
            self._check(answer)
            yield from answer.iter_bytes(_COPY_BYTES)

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        try:
            body = json.loads(answer.read())
        except ValueError:
            body = None
        raise error_from(answer.status_code, body)

    @contextmanager
    def _unreachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ControlError(
                "daemon-lost",
                f"the daemon did not complete its answer: {error!r}",
                where=str(self.path),
                remedy="see its log, and ask again: what it had acknowledged is not lost",
            ) from error


def _notices(lines: Iterator[str]) -> Iterator[Notice]:
    for line in lines:
        if line.startswith("data: "):
            yield cast(Notice, json.loads(line[len("data: ") :]))
