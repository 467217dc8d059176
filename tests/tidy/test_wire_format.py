"""The pages on the wire format list every record as the code declares it.

After a change of the records `P2PFED_WRITE_PAGES=1 pytest <this file>` writes the lists anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pfed.core.fields import WireField, wire_fields
from p2pfed.core.limits import (
    CENTRES_MAX,
    EPOCH_MAX,
    HEADER_BYTES_MAX,
    LIST_ITEMS_MAX,
    RULES_BYTES_MAX,
    SEQ_NUM_MAX,
    TEXT_BYTES_MAX,
    VOTES_MAX,
)
from p2pfed.core.records import RECORD_TYPES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE, CDDL = REFERENCE / "wire-format.md", REFERENCE / "wire-format.cddl"
MARKS = {
    PAGE: ("<!-- records: written by", "<!-- end of records -->"),
    CDDL: ("; Records: written by", "; End of records"),
}
FREE_KEYS = "  * 0..23 => any,"


def sentence(record_class: type[Any]) -> str:
    doc = record_class.__doc__ or ""
    return " ".join(doc.split("\n\n")[0].split())


def default_of(field: WireField) -> str:
    match field.default:
        case bool() as value:
            return str(value).lower()
        case bytes() as value:
            return f"{len(value)} zero bytes" if value else "empty"
        case ():
            return "[]"
        case str() as value:
            return f'"{value}"'
        case value:
            return str(value)


def page_lines() -> Iterator[str]:
    for number, record_class in RECORD_TYPES.items():
        yield f"### {number} {record_class.__name__}"
        yield ""
        yield sentence(record_class)
        yield ""
        yield "| key | name | kind | default |"
        yield "| --- | --- | --- | --- |"
        for field in wire_fields(record_class):
            default = f"optional, {default_of(field)}" if field.optional else "–"
            yield f"| {field.number} | `{field.name}` | {field.kind.name} | {default} |"
        yield ""


def cddl_lines() -> Iterator[str]:
    names = [kebab(record_class.__name__) for record_class in RECORD_TYPES.values()]
    yield "record = known-record / { * 0..23 => any }  ; any other is inert"
    yield "known-record = " + " / ".join(names[:9])
    yield "known-record /= " + " / ".join(names[9:])
    for number, record_class in RECORD_TYPES.items():
        yield ""
        yield f"{kebab(record_class.__name__)} = {{"
        yield f"  0: {number},"
        for field in wire_fields(record_class):
            key = f"? {field.number}" if field.optional else str(field.number)
            note = f"{field.name}, {default_of(field)} if absent" if field.optional else field.name
            yield f"  {key}: {field.kind.name},".ljust(28) + f"; {note}"
        yield FREE_KEYS
        yield "}"


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()


def written(path: Path, lines: list[str]) -> str:
    """The page with these lines between its marks."""
    before, after = MARKS[path]
    text = path.read_text(encoding="utf-8")
    start = text.index("\n", text.index(before)) + 1
    end = text.index(after)
    return text[:start] + "\n" + "\n".join(lines).rstrip("\n") + "\n\n" + text[end:]


def check(path: Path, lines: list[str]) -> None:
    wanted = written(path, lines)
    if os.environ.get("P2PFED_WRITE_PAGES") == "1":
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def test_the_page_lists_every_record_with_its_fields() -> None:
    check(PAGE, list(page_lines()))


def test_the_cddl_lists_every_record_with_its_fields() -> None:
    check(CDDL, list(cddl_lines()))


def test_every_kind_of_field_stands_in_the_page_and_in_the_cddl() -> None:
    kinds = {f.kind.name for c in RECORD_TYPES.values() for f in wire_fields(c)} - {"bool"}
    page, cddl = PAGE.read_text(encoding="utf-8"), CDDL.read_text(encoding="utf-8")
    described = set(re.findall(r"`([a-z0-9-]+)`", page))
    defined = set(re.findall(r"^([a-z0-9-]+) /?=", cddl, re.MULTILINE))
    assert kinds <= described
    assert kinds <= defined


def test_every_name_that_the_cddl_uses_is_defined_in_it() -> None:
    text = re.sub(r";.*", "", CDDL.read_text(encoding="utf-8"))
    text = re.sub(r'"[^"]*"|\.[a-z]+', "", text)
    defined = set(re.findall(r"^([a-z0-9-]+) /?=", text, re.MULTILINE))
    used = set(re.findall(r"(?<![a-z0-9-])[a-z][a-z0-9-]*(?![a-z0-9-]*:)", text))
    assert used - defined <= {"uint", "text", "bstr", "bool", "null", "any"}


def test_the_limits_in_the_cddl_are_those_of_the_code() -> None:
    text = CDDL.read_text(encoding="utf-8")
    for line in (
        f"epoch = 0..{EPOCH_MAX}",
        f"seq-num = 0..{SEQ_NUM_MAX}",
        f"words = [0*{LIST_ITEMS_MAX} word]",
        f"centres = [0*{LIST_ITEMS_MAX} centre]",
        f"votes = [0*{VOTES_MAX} position]",
        f"rules-bytes = bstr .size (1..{RULES_BYTES_MAX})",
        f"cose-header = bstr .size (1..{HEADER_BYTES_MAX})",
        f"line = text .size (0..{TEXT_BYTES_MAX})",
        f"3: [1*{CENTRES_MAX} card]",
    ):
        assert line in text
