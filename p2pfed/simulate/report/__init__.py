"""What a replay found, told: a JSON document, a terminal summary, one HTML page with pictures."""
