"""The control API: HTTP with JSON in front of a `Door`.

docs/reference/openapi.json is the contract. Handlers do three things and no more: read the request
strictly, call the door, write what it answered. Every error goes out as
`{"code", "what", "where", "remedy"}`, with the HTTP status of its branch in the tree of errors.
"""

from p2pfed.shell.api.app import make_app

__all__ = ["make_app"]
