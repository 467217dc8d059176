"""Offers that follow the batch system: what is seen, what is planned from it, what is done.

`room` keeps the nodes' accounts while a plan is made, `plan` makes it, `steady` holds it still,
`evict` chooses the guests that go when a local job wants their nodes; all of these are pure.
`follow` is the task that looks, asks them, and opens, resizes and closes offers.
docs/explanation/capacity.md tells the rules and the reasons.
"""
