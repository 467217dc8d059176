"""Offers that follow the batch system, with local processes: its books are the batch system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from p2pfed.shell.client import Client
from tests.e2e.federation import Centre, Federation

TEMPLATE = """
[[offer]]
name = "idle"
follow = true
nodes = 1
cores_per_node = 4
memory_mib_per_node = 2048
long_share = 100
{more}
"""


@pytest.fixture
def federation() -> Iterator[Federation]:
    with Federation.found("alpha", "beta", cores=4) as made:
        yield made


def write_template(centre: Centre, more: str = "") -> None:
    """Puts the template at the end of `centre.toml`, in place of an earlier one."""
    text = centre.config.read_text().partition(TEMPLATE[:30])[0]
    centre.config.write_text(text + TEMPLATE.format(more=more))


def sizes(client: Client) -> dict[str, int]:
    """The open offers of a centre by name."""
    return {offer["name"]: offer["nodes"] for offer in client.offers(own=True) if offer["open"]}


def until_offers(centre: Centre, **expected: int) -> None:
    """Waits until these are the open offers."""
    centre.until(lambda client: sizes(client) == expected, f"offers {expected}")


def test_an_offer_follows_and_peoples_word_stands(federation: Federation) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    write_template(alpha)
    federation.start()
    until_offers(alpha, idle=1)
    # A guest is inside the offer's size, and comes and goes without changing it.
    job_id = beta.submit("#!/bin/sh\necho ran\n")
    assert beta.until_over([job_id])[job_id]["state"] == "completed"
    assert sizes_of(alpha) == {"idle": 1}

    # Closed by hand it stays closed, over a restart too, until somebody opens it again.
    alpha.cli("offer", "close", "--all")
    until_offers(alpha)
    assert "template idle offers nothing now: it was closed by hand" in alpha.cli("status").out
    alpha.stop()
    alpha.start()
    alpha.until_writing()
    alpha.until(lambda c: any("closed by hand" in w for w in c.status()["warnings"]), "a warning")
    round_number = alpha.status()["round"]
    alpha.until(lambda c: c.status()["round"] >= round_number + 8, "eight rounds")
    assert sizes_of(alpha) == {}
    assert alpha.cli("offer", "open", "idle", "--nodes", "1", code=None).code != 0
    alpha.cli("offer", "open", "idle")
    until_offers(alpha, idle=1)

    # What is opened by hand is taken from what follows.
    offer_id = alpha.open_offer("default")
    until_offers(alpha, default=1, idle=0)
    (why,) = [line for line in alpha.cli("offer", "list").out.splitlines() if " idle " in line][-1:]
    assert why.startswith("template idle offers nothing now: "), why
    alpha.cli("offer", "close", offer_id)
    until_offers(alpha, idle=1)

    # Paused, it waits; resumed, it follows again.
    alpha.cli("pause")
    until_offers(alpha, idle=0)
    templates = alpha.cli("offer", "list", "--json").json["templates"]
    assert {t["name"]: t["why"] for t in templates}["idle"] == "the centre is paused: p2pfed resume"
    alpha.cli("resume")
    until_offers(alpha, idle=1)
    federation.until_settled()


def test_a_window_that_is_over_closes_the_offer(federation: Federation) -> None:
    alpha = federation["alpha"]
    today = datetime.now(UTC).date()
    days = f"{today - timedelta(days=1)}..{today + timedelta(days=2)}"
    write_template(alpha, f'windows = ["{days}"]\nwalltime_max = "7d"')
    federation.start("alpha")
    until_offers(alpha, idle=1)
    with alpha.client() as client:
        (offer,) = [o for o in client.offers(own=True) if o["open"]]
    end_ms = int(datetime.fromisoformat(f"{today + timedelta(days=3)}T00:00+00:00").timestamp())
    assert offer["until_ms"] == end_ms * 1000
    assert offer["walltime_max_s"] < 7 * 86_400

    write_template(alpha, f'windows = ["{today - timedelta(days=3)}"]')
    alpha.cli("reload")
    until_offers(alpha)
    assert "its windows are closed now" in alpha.cli("offer", "list").out
    write_template(alpha, 'classes = ["low"]')
    alpha.cli("reload")
    until_offers(alpha, idle=1)
    with alpha.client() as client:
        (offer,) = [o for o in client.offers(own=True) if o["open"]]
    assert offer["classes"] == ["low"]


def sizes_of(centre: Centre) -> dict[str, int]:
    """The open offers of a centre now."""
    with centre.client() as client:
        return sizes(client)
