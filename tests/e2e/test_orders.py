"""Real daemons: what a person is asked, answers, and orders, across a crash and a wrong file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfed.errors import InputError
from tests.e2e.federation import Federation

ASK = '\n[[admit]]\nthen = "ask"\nname = "strangers"\ncentres = ["alpha"]\n'


@pytest.fixture
def federation() -> Iterator[Federation]:
    """Beta takes guests, and asks about those of alpha."""
    rules = {"approval_wait_ms": 60_000, "accept_wait_ms": 20_000}
    with Federation.found("alpha", "beta", rules=rules, opened=["beta"]) as made:
        config = made["beta"].config
        config.write_text(config.read_text() + ASK)
        made.start()
        made.until_offers(1)
        yield made


def test_a_guest_waits_for_a_persons_word_and_comes_after_it(federation: Federation) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    job_id = alpha.submit("#!/bin/sh\necho here\n")
    (asked,) = beta.until(lambda client: client.requests(), "a request")
    assert (asked["job_id"], asked["rule"], asked["home"]) == (job_id, "strangers", "alpha")
    beta.kill()
    beta.start()
    (again,) = beta.until(lambda client: client.requests(), "the request again")
    assert again["claim_id"] == asked["claim_id"]
    right = beta.config.read_text()
    beta.config.write_text(right.replace('"ask"', '"perhaps"'))
    with beta.client() as client:
        with pytest.raises(InputError) as refused:
            client.reload()
        assert refused.value.code == "config-value"
        assert client.requests(), "a wrong file changed something"
    beta.config.write_text(right)
    beta.cli("approve", asked["claim_id"], "--reason", "we know them")
    view = alpha.until_over([job_id])[job_id]
    assert (view["state"], alpha.output(job_id)) == ("completed", "here\n")
    actions = [row["action"] for row in beta.cli("decisions", "--json").json["decisions"]]
    assert "approve" in actions
    beta.config.write_text(right + "[[offer\n")  # somebody is in the middle of changing it
    paused = beta.cli("pause", "--reason", "maintenance")
    assert "warning: " in paused.err
    assert "config-syntax" in paused.err
    assert beta.cli("requests", "--json").json == {"requests": []}
    beta.config.unlink()
    assert beta.cli("withdraw", "--now", "--json").json["mode"] == "withdrawn"
    assert beta.cli("reload", code=None).code != 0
    beta.config.write_text(right)
    assert beta.cli("pause").err == ""
    second = alpha.submit("#!/bin/sh\necho again\n")
    alpha.cli("hold", second)
    assert alpha.job(second)["job"]["held"]
    assert "paused by" in beta.cli("status").out
    beta.cli("resume")
    beta.cli("block", "alpha")
    assert beta.cli("unblock", "alpha", "--json").json["blocked"] == []
