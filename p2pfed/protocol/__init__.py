"""Bytes in, events out: what two peers say to each other."""
