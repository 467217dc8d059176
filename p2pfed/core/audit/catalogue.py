"""Every code that an audit reports: what it means, how much it weighs, what to do about it.

docs/reference/audit-codes.md shows the same; a test holds both together, and another looks that no
finding is made with a code that is not here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from p2pfed.core.audit.findings import Severity


class Explanation(NamedTuple):
    """What a code means, and what an auditor can do about it."""

    severity: Severity
    meaning: str
    advice: str


_ERROR, _WARNING, _NOTICE = Severity.ERROR, Severity.WARNING, Severity.NOTICE
_AGAIN: Final = "Export again; if it stays, take another centre's export."
_ASK: Final = "Ask the centre; the record is signed by it."
_HARMLESS: Final = "By the rules it counted for nothing; ask its author how it came about."

CATALOGUE: Final[dict[str, Explanation]] = {
    # The file
    "ledger-magic": Explanation(_ERROR, "Not a ledger file, or of another version.", _AGAIN),
    "ledger-truncated": Explanation(_ERROR, "The file ends early.", _AGAIN),
    "ledger-entry-size": Explanation(
        _ERROR, "An entry is empty or longer than any block; the rest can't be read.", _AGAIN
    ),
    "ledger-trailer": Explanation(_ERROR, "The trailer has another form.", _AGAIN),
    "ledger-trailing-bytes": Explanation(_ERROR, "There is something after the trailer.", _AGAIN),
    "ledger-count": Explanation(_ERROR, "The trailer counts another number of blocks.", _AGAIN),
    "ledger-frontier": Explanation(
        _ERROR, "A feed's newest admitted block is not the one in the trailer.", _AGAIN
    ),
    "ledger-order": Explanation(
        _ERROR, "A block stands in the file before one that it names.", _AGAIN
    ),
    "ledger-repeat": Explanation(_ERROR, "A block stands in the file twice.", _AGAIN),
    "ledger-federation": Explanation(
        _ERROR,
        "The ledger is of another federation than expected.",
        "Compare the charter that you trust with the one in the file.",
    ),
    "charter-incomplete": Explanation(
        _ERROR, "A founder's signature is missing from the charter.", "Ask for the whole charter."
    ),
    # Blocks
    "block-missing": Explanation(
        _ERROR,
        "A block is named by a valid block and is not in the file, or not valid, or another one "
        "stands in its place.",
        "Someone altered the file or left a block out: take another centre's export and compare.",
    ),
    "tail-withheld": Explanation(
        _ERROR,
        "Blocks at the end of a feed are missing, though another centre acked them.",
        "Whoever made the file left them out: take another centre's export.",
    ),
    "blocks-not-admitted": Explanation(
        _ERROR,
        "So many valid blocks rest on what is missing, and thus count for nothing.",
        "Mend what is missing first.",
    ),
    "fork-branch": Explanation(
        _ERROR,
        "A block stands beside its feed: its centre signed another one in its place.",
        "The two signed headers prove it; see the finding `fork`.",
    ),
    # Two exports
    "exports-contradict": Explanation(
        _ERROR,
        "Two exports hold different blocks at one place of a feed, both validly signed.",
        "The two signed headers prove that the centre wrote two histories.",
    ),
    "exports-federations": Explanation(
        _ERROR, "Two exports are of different federations.", "They can't be compared."
    ),
    "export-behind": Explanation(
        _NOTICE, "One export holds newer blocks of a feed than the other.", "No contradiction."
    ),
    # What daemons report
    "counters-differ": Explanation(
        _WARNING,
        "A daemon reports other counters than follow from the blocks that it had.",
        "It computes wrongly, or its report was changed: compare programs and versions.",
    ),
    "counters-view": Explanation(
        _NOTICE,
        "A daemon's counters can't be compared: it had other blocks than the ledger holds.",
        "Export the ledger from that daemon, after it reported.",
    ),
    # Members
    "fork": Explanation(
        _WARNING,
        "A centre signed two blocks for one place, and both are in the file.",
        "The federation suspends it; the text holds both headers' ids.",
    ),
    "fork-proven": Explanation(
        _WARNING, "A record in the ledger proves that this centre forked.", _ASK
    ),
    "fork-branches": Explanation(
        _NOTICE,
        "The newest blocks of a forked feed's branches, and what each counts for: all of it, or "
        "only what binds its author.",
        "It follows from what the other members had acked before they knew of the fork.",
    ),
    "checkpoint-false": Explanation(
        _WARNING,
        "A checkpoint states a head or root of a feed that the file does not lead to.",
        "Compare with another centre's export: its author, or whoever exported, is wrong.",
    ),
    "checkpoint-disagreement": Explanation(
        _WARNING,
        "Two centres signed different states of the same blocks; the register where they part.",
        "One of them computed wrongly: compare programs and versions, check its memory.",
    ),
    "record-inert": Explanation(_WARNING, "A record counts for nothing, and why.", _HARMLESS),
    # Claims
    "claim-unjustified": Explanation(
        _WARNING,
        "The matching at the view that the claim cites does not give this pair.",
        "The home took what was not its turn; the text says what it should have had.",
    ),
    "claim-view-false": Explanation(
        _WARNING,
        "The claim cites a view that its home can't have had, by its own acks.",
        "The home claimed from something that nobody can check.",
    ),
    "claim-view-stale": Explanation(
        _WARNING,
        "The claim cites a view that its home had already outgrown, or a round long over.",
        "A daemon that stood still may do this once; often, it is choosing among views.",
    ),
    "claim-round-ahead": Explanation(
        _WARNING, "The claim cites a round whose cut lies after the claim.", _ASK
    ),
    "claim-rules-version": Explanation(
        _WARNING,
        "The claim cites another version of the rules than was in force at its round.",
        _ASK,
    ),
    "claim-job-bound": Explanation(
        _WARNING, "The job was bound to another claim that was not over.", _ASK
    ),
    "claim-offer-unknown": Explanation(
        _WARNING, "The claim names an offer that its home had not acked.", _ASK
    ),
    "claim-too-long": Explanation(
        _WARNING, "The claim stands longer than the rules allow.", "Hosts cap it; ask the home."
    ),
    "claim-unknown": Explanation(
        _WARNING, "A host speaks of a claim that it had not acked, or that does not exist.", _ASK
    ),
    # The lifecycle
    "accept-late": Explanation(_WARNING, "An accept after the claim was over.", _ASK),
    "accept-too-long": Explanation(
        _WARNING, "An accept holds longer than the rules allow.", "Homes cap it; ask the host."
    ),
    "accept-offer-closed": Explanation(_WARNING, "An accept on an offer that was closed.", _ASK),
    "capacity-exceeded": Explanation(
        _WARNING,
        "An accept promises capacity of an offer that was already promised.",
        "The host over-allocates: compare its starts with its machine.",
    ),
    "handover-not-accepted": Explanation(
        _WARNING, "A handover of a claim of which the home had acked no accept.", _ASK
    ),
    "handover-late": Explanation(_WARNING, "A handover after the accept was over.", _ASK),
    "lease-too-long": Explanation(
        _WARNING, "A lease longer than the rules allow.", "Hosts cap it; ask the home."
    ),
    "lease-double": Explanation(
        _WARNING,
        "A job is handed over while another lease of it runs.",
        "The job may have run twice at the same time; usage of both counts.",
    ),
    "start-without-lease": Explanation(
        _WARNING, "A start of a claim of which the host had acked no handover.", _ASK
    ),
    "start-late": Explanation(
        _WARNING, "A start so late that the job could outlast its lease.", _ASK
    ),
    "end-over-claim": Explanation(
        _WARNING,
        "A usage record states more than the job's resources can give in its time.",
        "The rules bound what counts by what was claimed; ask the host.",
    ),
    "end-times": Explanation(
        _WARNING, "A usage record's times don't fit each other, or its block.", _ASK
    ),
    "end-after-lease": Explanation(_WARNING, "A job ran beyond its lease.", _ASK),
    "lost-early": Explanation(
        _WARNING,
        "A home declared a job lost before its lease was over.",
        "From then on the job may have run twice.",
    ),
    "settlement-early": Explanation(
        _WARNING, "A receipt or dispute of an end that the home had not acked.", _HARMLESS
    ),
    "receipt-differs": Explanation(
        _WARNING,
        "A receipt countersigns other amounts than the end states.",
        "The lesser counts; ask both.",
    ),
    "dispute-more": Explanation(
        _WARNING, "A dispute states more than the end.", "The lesser counts; ask both."
    ),
    # Usage
    "usage-disputed": Explanation(
        _NOTICE, "The home measured less than the host states.", "The lesser counts until settled."
    ),
    "usage-overdue": Explanation(
        _NOTICE,
        "The home did not answer a usage record by its deadline.",
        "The end counts, bounded by what was claimed.",
    ),
    # Patterns
    "clock-offset": Explanation(
        _NOTICE,
        "A centre's clock seems further from another's than the rules' clock error.",
        "Look at its time service.",
    ),
    "declines-frequent": Explanation(
        _NOTICE,
        "A host closes most of a home's claims for one reason.",
        "Its offers may promise what its policy refuses.",
    ),
    "offer-not-honoured": Explanation(
        _NOTICE,
        "Many claims on an offer, and nothing ever started there.",
        "The offer earns contribution at the idle rate all the same: ask the host.",
    ),
    "host-runs-nothing": Explanation(
        _NOTICE,
        "Of all jobs that a host started and that ended, none ever ran.",
        "Every record is legal, and the host is of no use: look at its batch system, its accounts "
        "for guests, and its daemon's log.",
    ),
    "receipts-late": Explanation(
        _NOTICE, "A home answers most usage records just before the deadline.", "Ask the home."
    ),
    "class-share-exceeded": Explanation(
        _NOTICE,
        "A home posts more of a class than its share; the rest counted as the next class down.",
        "The rule held; the home asks for more than was agreed.",
    ),
    "pair-closed": Explanation(
        _NOTICE,
        "Two centres trade only with each other, though others are there.",
        "It may be policy; it may be an arrangement.",
    ),
}

FAMILIES: Final[dict[str, Explanation]] = {
    prefix: Explanation(_ERROR, meaning, _AGAIN)
    for prefix, meaning in {
        "block-": "A block is not valid; the code is the one that a peer would get.",
        "cose-": "A block's signed message has another form.",
        "cbor-": "What is encoded is not in the one form that is allowed.",
        "charter-": "The charter is not valid.",
        "card-": "A founder's card in the charter is not valid.",
        "rules-": "The rules in the charter are not valid.",
        "key-": "A key in the charter is not valid.",
    }.items()
}
"""Codes of decoders, by what they begin with; docs/reference/errors.md lists each."""


def explanation_of(code: str) -> Explanation | None:
    """What a code means; None if no audit reports it."""
    found = CATALOGUE.get(code)
    if found is not None:
        return found
    return next((told for prefix, told in FAMILIES.items() if code.startswith(prefix)), None)
