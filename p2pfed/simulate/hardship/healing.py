"""After the faults: what must be true again, and within how long.

The bounds follow from the rules. A lease that nobody can end any more, a centre that has to be
careful for a whole lease, and as many attempts as a job may take: `HEAL_MS` is more than all of
that. From then on, each centre is whole, each job of an honest home is at its end, no honest host
holds room for anybody, all honest members stand at one view at once and agree on every balance, and
work that comes now is done as in a calm world.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Final

from p2pfed.core.accounting import balance
from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.audit.findings import Severity
from p2pfed.core.charter import encode_charter
from p2pfed.core.ids import BlockId, CentreName, JobId
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.lifecycle import HOLDS_CAPACITY, JobState
from p2pfed.core.records import Job, Offer
from p2pfed.node.admission import AdmissionPolicy, Mode
from p2pfed.node.events import CloseOffer, HoldJob, PolicyChanged, RequestId, SetMode
from p2pfed.simulate.hardship.machines import end_drift
from p2pfed.simulate.scene import Centre, Faults
from p2pfed.simulate.world import World

HEAL_MS: Final = 420_000
AGREE_ROUNDS: Final = 12
"""So many rounds after all is quiet, some round has been the same everywhere."""
PROBE_MS: Final = 60_000
"""How long a small job may take in a calm federation with room."""
MERGE_ONE_IN: Final = 5

OFFER: Final = Offer(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    memory_mib_per_node=4_000,
    walltime_max_s=50,
)
"""Capacity for eight cores at a time."""
PROBE: Final = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=1,
    memory_mib_per_node=100,
    walltime_s=2,
    work_class="normal",
    payload_digest=bytes(31) + b"p",
    payload_bytes=10,
)


class Healing:
    """The second half of a trial.

    Args:
        world: the federation; its faults are over from now on.
        hosts: honest centres that offer, and are meant to be members.
        homes: honest centres that post.
        posted: whether all jobs are posted.
    """

    def __init__(
        self,
        world: World,
        hosts: Sequence[CentreName],
        homes: Sequence[CentreName],
        posted: Callable[[], bool],
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._homes = homes
        self._posted = posted

    def run(self) -> None:
        """Heals, waits, and examines everything."""
        world = self._world
        self._calm()
        quiet = world.run(HEAL_MS, self._settled)
        world.hold(quiet, f"not healed after {HEAL_MS // 1000} s: {self._unsettled()}")
        self._agree()
        self._probe()
        world.checks.at_the_end(self._members())
        self._audit()
        if world.seed % MERGE_ONE_IN == 0:
            world.checks.agreement.merged(world.rng.choice(self._members()))

    def _calm(self) -> None:
        """Ends every fault; administrators and users take back what they did meanwhile."""
        world = self._world
        world.faults = Faults()
        world.network.heal()
        for centre in world.honest():
            world.free_disk(centre)
            end_drift(world, centre)
            world.tell(centre.name, PolicyChanged(policy=AdmissionPolicy()))
        world.at(world.now_ms + 12_000, self._undo)

    def _undo(self) -> None:
        """What a person undoes once a centre is whole again: held jobs, closed doors."""
        world = self._world
        for centre in world.honest():
            if not centre.up or centre.node is None:
                world.at(world.now_ms + 3_000, self._undo)
                return
        for name in dict.fromkeys((*self._hosts, *self._homes)):
            self._open_doors(world.centres[name])

    def _open_doors(self, centre: Centre) -> None:
        world, node = self._world, centre.node
        assert node is not None
        mode = SetMode(request=RequestId(world.new_id()), mode=Mode.OPEN, who="admin")
        world.tell(centre.name, mode)
        if centre.name in self._hosts:
            # Offers anew: an offer that declined a job for good is not asked again.
            world.tell(centre.name, CloseOffer(request=RequestId(world.new_id()), offer_id=None))
            world.open_offer(centre.name, OFFER)
        held = [job_id for job_id, entry in sorted(node.ledger.live.jobs.items()) if entry.held]
        for job_id in held:
            if job_id.centre == centre.name:
                request = RequestId(world.new_id())
                freed = HoldJob(request=request, job_id=job_id, held=False, who="user")
                world.tell(centre.name, freed)

    # Quiet

    def _members(self) -> list[Centre]:
        """The honest centres that are members, as each of them sees it in its newest round."""
        honest = self._world.honest()
        seen = [set(c.node.ledger.view.state.members) for c in honest if c.node is not None]
        return [c for c in honest if sum(c.name in members for members in seen) * 2 > len(seen)]

    def _settled(self) -> bool:
        return self._posted() and not self._unsettled()

    def _unsettled(self) -> list[str]:
        """What is not at rest, centre by centre."""
        found = []
        for centre in self._members():
            node, name = centre.node, centre.name
            if node is None:
                found.append(f"{name} is down")
                continue
            if not node.recovery.ready:
                found.append(f"{name}: {node.recovery.explain()}")
            live = node.ledger.live
            told = [j for j in self._world.checks.acknowledged if self._is_honest(j)]
            if not all(map(live.passed, told)):
                found.append(f"{name} does not know every job")
            for entry in live.jobs.values():
                verdict = live.judge(entry)
                if self._is_honest(entry.job_id) and not verdict.state.final:
                    found.append(f"{name}: {entry.job_id} is {verdict.state.value}")
            for claim in live.claims.values():
                ours = claim.claim is not None and claim.claim.offer_id.centre == name
                if ours and claim.state in HOLDS_CAPACITY:
                    found.append(f"{name} holds room for {claim.claim_id}: {claim.state.value}")
        return found

    def _is_honest(self, job_id: JobId) -> bool:
        return self._world.centres[job_id.centre].honest

    def _agree(self) -> None:
        """All stand at one view, and then agree on every balance."""
        world = self._world

        def agreed() -> bool:
            nodes = [c.node for c in self._members() if c.node is not None]
            return len({(n.rounds.last, n.rounds.last_digest) for n in nodes}) == 1

        for_ms = AGREE_ROUNDS * 2_000
        world.hold(world.run(for_ms, agreed), f"no equal views within {AGREE_ROUNDS} rounds")
        balances = set()
        for centre in self._members():
            assert centre.node is not None
            view = centre.node.ledger.view
            standings = {c: view.state.standing(c, view.cut_ms) for c in view.state.members}
            balances.add(tuple((c, balance(s)) for c, s in sorted(standings.items())))
        world.hold(len(balances) == 1, f"balances differ at an equal view: {balances}")

    def _probe(self) -> None:
        """Throughput is back: a small job of each home is done in its time."""
        world = self._world
        members = {centre.name for centre in self._members()}
        hosts = [name for name in self._hosts if name in members]
        homes = [name for name in dict.fromkeys(self._homes) if name in members]
        if len(world.honest()) < len(world.centres):
            return  # a rogue may take it and do nothing, which costs no more than time
        asked = [(h, world.submit(h, PROBE)) for h in homes if set(hosts) - {h}]

        def done() -> bool:
            for home, request in asked:
                job_id = world.centres[home].replies.get(request)
                told = [j for j in world.checks.acknowledged if str(j) == job_id]
                node = world.centres[home].node
                if not told or node is None:
                    return False
                entry = node.ledger.live.jobs.get(told[0])
                if entry is None or node.ledger.live.judge(entry).state is not JobState.COMPLETED:
                    return False
            return True

        world.hold(world.run(PROBE_MS, done), "work that comes after the faults is not done")
        quiet = world.run(HEAL_MS, self._settled)
        world.hold(quiet, f"not quiet after the last work: {self._unsettled()}")

    # The ledgers

    def _audit(self) -> None:
        """A stranger audits every ledger; of those that hold the same blocks, one."""
        world = self._world
        audited: set[frozenset[BlockId]] = set()
        members = self._members()
        world.rng.shuffle(members)
        for centre in members:
            ids = frozenset(block.block_id for block in centre.disk.blocks)
            if ids not in audited:
                audited.add(ids)
                self._audit_one(centre)

    def _audit_one(self, centre: Centre) -> None:
        world = self._world
        data = b"".join(write_ledger(encode_charter(world.charter), centre.disk.blocks))
        report = audit_ledger(
            FileSource(io.BytesIO(data)),
            expected=world.federation.id,
            opener=world.checks.library.open,
        )
        rogue = len(world.honest()) < len(world.centres)
        found = [
            str(finding)
            for finding in report.ledger.findings
            if finding.severity is Severity.ERROR
            and (not rogue or (finding.centre is not None and world.centres[finding.centre].honest))
        ]
        what = f"the audit of {centre.name}'s ledger accuses honest centres: {found[:3]}"
        world.hold(not found, what)
