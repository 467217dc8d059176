"""How many bytes cross the wires: while blocks spread, and when a centre comes back.

Real daemons with the default rules, each behind a relay that its peers dial and that counts what
passes, TLS and handshakes included. The baseline is the bytes of the blocks themselves: each has to
come to each other centre once, over whichever link. A block that crossed a second link to the same
centre would show as a ratio of 2.
"""

from __future__ import annotations

import argparse
import sqlite3
import time

from scripts.benchmarks.bench_daemons import open_offer
from scripts.benchmarks.centres import Centre, Federation, covers, heights, progress
from scripts.benchmarks.ledgers import RECORDS_A_JOB, History, store


def stored(centre: Centre, *, without: str = "") -> tuple[int, int]:
    """How many blocks its ledger has, and their bytes, save those that `without` wrote."""
    if not centre.database.exists():
        return 0, 0
    with sqlite3.connect(f"file:{centre.database}?mode=ro", uri=True) as ledger:
        query = (
            "SELECT count(*), coalesce(sum(length(data)), 0) FROM blocks JOIN feeds USING (feed)"
        )
        count, size = ledger.execute(f"{query} WHERE centre != ?", (without,)).fetchone()
    ledger.close()
    return int(count), int(size)


def on_all_wires(federation: Federation) -> int:
    """Bytes that crossed all links so far, in both directions."""
    relays = [centre.relay for centre in federation if centre.relay is not None]
    return sum(c.bytes_both for relay in relays for c in relay.connections)


def received_since(federation: Federation, back: Centre, known: dict[str, int]) -> tuple[int, int]:
    """Bytes that a centre that came back received over its new links, and how many these are.

    Args:
        federation: all of it.
        back: the centre that came back: nobody else has new links.
        known: how many connections each relay had seen before.
    """
    received = links = 0
    for centre in federation:
        assert centre.relay is not None
        for connection in centre.relay.connections[known[centre.name] :]:
            received += connection.bytes_in if centre is back else connection.bytes_out
            links += 1
    return received, links


def print_line(name: str, blocks: int, ideal: int, wire: int, seconds: float, links: int) -> None:
    """A line of the table."""
    ratio = f"{wire / ideal:>7.2f}x" if ideal else f"{'':>8}"
    rate = f"{blocks / seconds:>9,.0f}" if blocks else f"{'':>9}"
    counts = f"{blocks:>7,} {ideal:>11,} {wire:>11,} {ratio}"
    print(f"{name:36} {counts} {links:>6} {seconds:>7.1f} {rate}", flush=True)


def bench_spreading(federation: Federation, blocks: int) -> None:
    """One centre writes; what crosses all links together."""
    author, *others = federation
    wire, (_, held) = on_all_wires(federation), stored(author)
    start_s = time.monotonic()
    with author.client() as client:
        for number in range(blocks):
            open_offer(client, f"bench-{number}")
            if number % 100 == 0:
                progress(f"{number} of {blocks} blocks appended")
    federation.until_equal()
    seconds = time.monotonic() - start_s
    ideal = (stored(author)[1] - held) * len(others)
    wire = on_all_wires(federation) - wire
    links = len(federation) * len(others) // 2
    print_line("spread from one to all others", blocks, ideal, wire, seconds, links)


def bench_return(federation: Federation, back: Centre, name: str) -> None:
    """A centre that is down comes back and takes what it lacks."""
    others = [centre for centre in federation if centre is not back]
    known = {c.name: len(c.relay.connections) for c in federation if c.relay is not None}
    held_count, held = stored(back, without=back.name)
    wanted = heights(others[0].status())
    count, size = stored(others[0], without=back.name)
    back.begin()
    start_s = time.monotonic()
    back.until(lambda s: covers(heights(s), wanted), "the blocks of all")
    seconds = time.monotonic() - start_s
    back.until(lambda s: s["peers_linked"] == len(others), "links to all")
    received, links = received_since(federation, back, known)
    print_line(name, count - held_count, size - held, received, seconds, links)


def bench_absence(centres: int, blocks: int) -> None:
    """Spreading, then a centre that was away for nothing, and for all that."""
    with Federation.found(centres, relayed=True) as federation:
        author, *_, back = federation
        progress(f"starting {centres} daemons")
        federation.start()
        bench_spreading(federation, blocks)
        back.end()
        bench_return(federation, back, "back after a second")
        back.end()
        with author.client() as client:
            for number in range(blocks):
                client.close_offers(None)
                open_offer(client, f"more-{number}")
                if number % 100 == 0:
                    progress(f"{number} of {blocks} blocks appended")
        bench_return(federation, back, "back, lacking small blocks")


def bench_newcomer(centres: int, records: int, per_block: int) -> None:
    """A centre with an empty ledger meets a long history."""
    with Federation.found(centres, relayed=True) as federation:
        *others, newcomer = federation
        progress(f"writing a history of {records:,} records")
        history = History(federation, records // per_block)
        store(history.lifecycles(records // RECORDS_A_JOB, per_block), others)
        for centre in others:
            centre.begin()
        for centre in others:
            centre.until(lambda s: s["peers_linked"] == len(others) - 1, "links")
        federation.until_equal()
        progress("the newcomer starts")
        bench_return(federation, newcomer, f"from nothing, {per_block} records a block")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--centres", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=300)
    parser.add_argument("--records", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{options.centres} centres")
    print(
        f"{'':36} {'blocks':>7} {'their bytes':>11} {'on the wire':>11} {'ratio':>8} {'links':>6}"
        f" {'s':>7} {'blocks/s':>9}"
    )
    bench_absence(options.centres, options.blocks)
    bench_newcomer(options.centres, options.records, 10)
    bench_newcomer(options.centres, options.records * 5, 100)
    print("their bytes: once for each centre that lacks them. on the wire: what came to a centre")
    print("that was away; for the first line, what crossed all links, in both directions.")


if __name__ == "__main__":
    main()
