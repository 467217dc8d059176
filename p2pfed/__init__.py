"""p2pfed: independent computing centres use each other's idle capacity.

Read top-down: `cli` talks to a daemon (`shell`), which performs what one centre's brain (`node`)
decides from bytes that peers exchange (`protocol`) and from replicated state (`core`). `store` and
`execute` are the two things a daemon owns: its database and its batch system.
"""

__version__ = "0.1.0"
