"""Report pages: one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

_STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0;background:#f4f6f8;color:#1c2733;
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 20px 64px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:21px;margin:44px 0 6px}p{margin:6px 0 14px;max-width:75ch}
.lead{font-size:19px;color:#33414f;max-width:70ch}.muted{color:#5d6b79;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin:26px 0}
.tile,figure,.table{background:#fff;border:1px solid #e3e8ed;border-radius:10px}
.tile{padding:16px 18px}.tile b{display:block;font-size:29px;line-height:1.2;color:#1f6fb2}
.tile span{color:#5d6b79;font-size:14px}.tile.bad b{color:#c8553d}
figure{margin:16px 0;padding:24px 28px 12px}svg{display:block;width:100%;height:auto}
figcaption{text-align:right;font-size:13px}a{color:#1f6fb2}
.table{overflow-x:auto;margin:14px 0}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:8px 12px;text-align:right;white-space:nowrap;border-top:1px solid #e9edf1}
th{color:#5d6b79;font-weight:600;border-top:0;vertical-align:bottom;white-space:normal}
th:first-child,td:first-child{text-align:left}tr.all td{font-weight:650;background:#f8fafb}
td.good{color:#1d7a4c}td.bad{color:#b83f27;font-weight:650}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:14px}
dt{color:#5d6b79}dd{margin:0;overflow-wrap:anywhere}
@media print{body{background:#fff}figure,.tile,.table{break-inside:avoid}figcaption{display:none}}
"""


def wrap(title: str, body: str) -> str:
    """A whole HTML page around its content."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def figure(svg: str, name: str) -> str:
    """A picture in its frame, with a link that saves it as `name`.svg."""
    data = base64.b64encode(svg.encode()).decode()
    link = f'<a download="{name}.svg" href="data:image/svg+xml;base64,{data}">save this picture</a>'
    return f"<figure>{svg}<figcaption>{link}</figcaption></figure>"


Cell = tuple[str, str]
"""Text and class of a table's cell."""


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell | str]], last: str = "") -> str:
    """A table; `last` is the class of its last row."""
    lines = []
    for row in rows:
        cells = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        lines.append("".join(f'<td class="{kind}">{escape(text)}</td>' if kind else
                             f"<td>{escape(text)}</td>" for text, kind in cells))  # fmt: skip
    body = "".join(f"<tr>{line}</tr>" for line in lines[:-1])
    if lines:
        body += (f'<tr class="{last}">' if last else "<tr>") + f"{lines[-1]}</tr>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'
