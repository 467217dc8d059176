"""The life of claims by exhaustion: every way in which a tiny federation of real nodes can go."""
