"""Federations that are treated badly, by a seed, and must come through it unharmed."""
