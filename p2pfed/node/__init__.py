"""One centre's brain: `handle(event, now) -> effects`, without I/O, clock or randomness."""
