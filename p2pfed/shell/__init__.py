"""The only code that waits: it performs what the node decides."""
