"""Commands about the federation as this daemon sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from p2pfed.cli.council import members_table
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.tables import (
    print_fields,
    print_table,
    short,
    show_balance,
    show_bytes,
    show_duration,
    show_list,
    show_mib,
    show_time,
)
from p2pfed.core.units import DAY_MS

if TYPE_CHECKING:
    from p2pfed.shell.answers import BalanceView, OfferView, StatusView


@click.command()
@json_option
@daemon_options
@pass_session
def status(session: Session, *, as_json: bool) -> None:
    """Show how this centre's daemon is doing."""
    with session.client() as client:
        found = client.status()
    if as_json:
        print_json(found)
        return
    print_fields(_status_fields(found))
    for template in found["templates"]:
        if template["why"]:
            click.echo(f"template {template['name']} offers nothing now: {template['why']}")
    for warning in found["warnings"]:
        click.echo(f"warning: {warning}")


def _status_fields(found: StatusView) -> list[tuple[str, object]]:
    offset = found["clock_offset_ms"]
    head = found["seq_num"]
    counts = [f"{count} {state}" for state, count in found["jobs"].items() if count]
    kept = found["retention"]
    hosted = [f"{count} {state}" for state, count in found["hosted"].items() if count]
    return [
        ("centre", found["centre"]),
        ("federation", f"{found['federation']} ({short(found['federation_id'])})"),
        ("running for", show_duration(found["now_ms"] - found["started_ms"])),
        ("version", f"{found['version']}, rules {found['rules_version']}"),
        ("state", _state_word(found)),
        ("peers", f"{found['peers_linked']} of {_others(found)} connected"),
        (
            "clock",
            ("trusted" if found["clock_trusted"] else "NOT trusted")
            + ("" if offset is None else f", {offset:+} ms to its peers"),
        ),
        ("ledger", f"{found['blocks']} blocks, {found['blocks_pending']} waiting"),
        ("own feed", "nothing yet" if head is None else f"block {head}, epoch {found['epoch']}"),
        ("round", f"{found['round']}, view {short(found['view_digest'])}"),
        ("offers open", found["offers_open"]),
        ("own jobs", show_list(counts, empty="none")),
        ("guests", show_list(hosted, empty="none")),
        ("cosigned", show_time(found["cosigned_ms"])),
        ("database", show_bytes(kept["database_bytes"])),
        (
            "archive",
            f"{kept['archived_blocks']} blocks in {kept['segments']} segments, "
            f"{show_bytes(kept['archive_bytes'])}"
            + ("" if kept["archive"] else "; nothing more is moved there"),
        ),
    ]


def _others(found: StatusView) -> int:
    return found["members"] - (found["standing"] in ("member", "suspended"))


def _state_word(found: StatusView) -> str:
    if found["standing"] in ("left", "removed"):
        return found["standing"]
    if found["recovering"]:
        return "recovering"
    if found["control"] == "open":
        return "paused" if found["paused"] else "ok"
    return found["control"]


@click.command()
@json_option
@daemon_options
@pass_session
def peers(session: Session, *, as_json: bool) -> None:
    """List the other centres and the connections to them."""
    with session.client() as client:
        found = client.peers()
        now_ms = 0 if as_json else client.status()["now_ms"]
    if as_json:
        print_json({"peers": found})
        return
    print_table(
        ("CENTRE", "ADDRESS", "LINK", "HEARD", "BEHIND>", "CLOCK>", "ERROR"),
        (
            (
                peer["centre"],
                peer["address"],
                ("to it" if peer["outbound"] else "from it") if peer["linked"] else "no",
                "never"
                if peer["heard_ms"] is None
                else f"{show_duration(max(0, now_ms - peer['heard_ms']))} ago",
                peer["lacks_blocks"],
                None if peer["offset_ms"] is None else f"{peer['offset_ms']:+} ms",
                peer["error"] or "",
            )
            for peer in found
        ),
        empty="this federation has no other centre",
    )


@click.command()
@json_option
@daemon_options
@pass_session
def members(session: Session, *, as_json: bool) -> None:
    """List the centres of the federation: since when, and by which votes."""
    with session.client() as client:
        found = client.members()
    if as_json:
        print_json({"members": found})
        return
    members_table(found)


@click.command()
@json_option
@daemon_options
@pass_session
def offers(session: Session, *, as_json: bool) -> None:
    """List all capacity that is on offer in the federation."""
    with session.client() as client:
        found = client.offers()
    if as_json:
        print_json({"offers": found})
    else:
        print_offers(found, empty="no centre offers capacity now")


def print_offers(found: Sequence[OfferView], *, empty: str) -> None:
    """The table of offers, for `offers` and `offer list`."""
    print_table(
        ("OFFER", "HOST", "NAME", "CLASS", "STATE", "FREE>", "OF>", "GPUS>", "MEMORY>", "LONGEST>",
         "UNTIL", "FOR"),
        (
            (
                offer["offer_id"],
                offer["host"],
                offer["name"],
                offer["resource_class"],
                "closed" if not offer["open"] else "open" if offer["live"] else "not heard",
                f"{offer['free_cores']} cores",
                f"{offer['nodes']} x {offer['cores_per_node']}",
                f"{offer['free_gpus']} of {offer['nodes'] * offer['gpus_per_node']}",
                show_mib(offer["memory_mib_per_node"]),
                show_duration(offer["walltime_max_s"] * 1000),
                show_time(offer["until_ms"]) if offer["until_ms"] else "closed",
                _conditions(offer),
            )
            for offer in found
        ),
        empty=empty,
    )  # fmt: skip


def _conditions(offer: OfferView) -> str:
    parts = [
        show_list(offer["allow"], empty=""),
        *(f"not {centre}" for centre in offer["deny"]),
        show_list(offer["classes"], empty=""),
        *(f"data {name}" for name in offer["data_classes"]),
        *(f"has {name}" for name in offer["features"]),
        "preemptible" if offer["preemptible"] else "",
        "may ask" if offer["may_ask"] else "",
    ]
    return show_list((part for part in parts if part), empty="all")


@click.command()
@click.option(
    "--counters",
    is_flag=True,
    help="The raw amounts by centre, class and day; as JSON, what 'p2pfed audit --counters' reads.",
)
@json_option
@daemon_options
@pass_session
def balance(session: Session, *, counters: bool, as_json: bool) -> None:
    """Show what each centre has given and taken."""
    if counters:
        _print_counters(session, as_json=as_json)
        return
    with session.client() as client:
        found = client.balance()
    if as_json:
        print_json({"balances": found})
        return
    print_table(
        (
            "CENTRE",
            "BALANCE>",
            "GIVEN>",
            "TAKEN>",
            "NOW IN USE>",
            "CREDIT LINE>",
            "SATISFIED>",
            "TAKEN/GIVEN>",
            "OUT OF DEBT",
            "IN ALL",
        ),
        (
            (
                row["centre"],
                show_balance(row["balance"]),
                row["contribution"],
                row["usage"],
                row["committed"],
                row["credit_line"],
                _share(row["satisfaction_ppm"]),
                _share(row["fairness_ppm"]),
                _debt(row["debt_free_days"]),
                _amounts(row),
            )
            for row in found
        ),
        empty="no members",
    )


def _print_counters(session: Session, *, as_json: bool) -> None:
    with session.client() as client:
        found = client.counters()
    if as_json:
        print_json(found)
        return
    print_table(
        ("CENTRE", "CLASS", "DAY", "CONTRIBUTED>", "CONSUMED>"),
        (
            (
                row["centre"],
                row["resource_class"],
                show_time(row["day"] * DAY_MS)[:10],
                row["contributed"],
                row["consumed"],
            )
            for row in found["counters"]
        ),
        empty="nothing was contributed or consumed yet",
    )


def _share(ppm: int | None) -> str:
    return "-" if ppm is None else f"{ppm / 10_000:.1f} %"


def _debt(days: int | None) -> str:
    if days == 0:
        return "no debt"
    return "not at this rate" if days is None else f"in {days} d"


def _amounts(row: BalanceView) -> str:
    return show_list(
        f"{amount['resource_class']}: gave {amount['delivered']},"
        f" took {amount['consumed']} {amount['unit']}-s"
        for amount in row["amounts"]
        if amount["delivered"] or amount["consumed"]
    )
