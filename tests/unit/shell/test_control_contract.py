"""The contract of the control API, docs/reference/openapi.json, against the code."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from p2pfed.core.fields import wire_fields
from p2pfed.core.records import Offer
from p2pfed.shell import answers, council_answers
from p2pfed.shell.api.app import ROUTES
from p2pfed.shell.api.errors import ErrorView
from p2pfed.shell.door import JobRequest

CONTRACT = json.loads(
    (Path(__file__).parents[3] / "docs" / "reference" / "openapi.json").read_text()
)
SCHEMAS = CONTRACT["components"]["schemas"]
VIEWS = {
    name: view
    for module in (answers, council_answers)
    for name, view in vars(module).items()
    if typing.is_typeddict(view)
} | {"ErrorView": ErrorView}


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema that a field of this type must have."""
    plain = {str: "string", bool: "boolean", int: "integer", type(None): "null"}
    if hint in plain:
        return {"type": plain[hint]}
    if typing.is_typeddict(hint):
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        case origin if origin is list:
            return {"type": "array", "items": schema_of(arguments[0])}
        case origin if origin is dict:
            return {"type": "object", "additionalProperties": schema_of(arguments[1])}
        case origin if origin in (typing.Union, types.UnionType):
            parts = [schema_of(argument) for argument in arguments]
            if all(list(part) == ["type"] for part in parts):
                return {"type": [part["type"] for part in parts]}
            return {"anyOf": parts}
    raise AssertionError(hint)


@pytest.mark.parametrize("name", VIEWS)
def test_an_answers_fields_are_those_of_the_contract(name: str) -> None:
    hints = typing.get_type_hints(VIEWS[name])
    described = SCHEMAS[name]["properties"]
    without_text = {
        field: {key: value for key, value in schema.items() if key != "description"}
        for field, schema in described.items()
    }
    assert without_text == {field: schema_of(hint) for field, hint in hints.items()}
    assert sorted(SCHEMAS[name]["required"]) == sorted(hints)


def test_what_a_caller_sends_is_in_the_contract() -> None:
    request = {field.name for field in fields(JobRequest)} - {"script"} | {"executable"}
    assert set(SCHEMAS["JobRequest"]["properties"]) == request
    terms = wire_fields(Offer)
    assert set(SCHEMAS["OfferTerms"]["properties"]) == {field.name for field in terms}
    assert set(SCHEMAS["OfferTerms"]["required"]) == {f.name for f in terms if not f.optional}


def test_every_route_is_in_the_contract_and_the_other_way() -> None:
    described = {
        (method.upper(), path) for path, item in CONTRACT["paths"].items() for method in item
    }
    assert described == {(method, path.replace(":path", "")) for method, path, _ in ROUTES}


def test_every_field_and_operation_is_described() -> None:
    for name, schema in SCHEMAS.items():
        for field, about in schema["properties"].items():
            assert about["description"], f"{name}.{field}"
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], f"{method} {path}"
            named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_every_reference_leads_somewhere() -> None:
    def check(item: Any) -> None:
        if isinstance(item, dict):
            if "$ref" in item:
                *_, kind, name = item["$ref"].split("/")
                assert name in CONTRACT["components"][kind]
            for value in item.values():
                check(value)
        elif isinstance(item, list):
            for value in item:
                check(value)

    check(CONTRACT)
