"""The audit as one HTML file that works without a network and without an installation.

Here belongs putting the file together from its parts in the folder `page`. Everything that comes from data goes into
one JSON block, from which the script makes text and never markup; the policy in the head allows the file's own script
and style and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

from methods.humans.tasks import Audit, sections
from methods.quality.human import DIMENSIONS, RANK, STEPS

PARTS = Path(__file__).parent / "page"


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """JSON that cannot end the element it stands in; a lone surrogate, which no file can hold, becomes its escape."""
    text = json.dumps(data, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def data_of(audit: Audit) -> dict[str, Any]:
    """What the page is told. Nothing of it says which rows are planted."""
    intro, hints = sections(audit.guidelines)
    return {
        "audit": audit.id,
        "title": audit.title,
        "steps": STEPS,
        "rank": RANK,
        "dimensions": [
            {"name": d.name, "kind": d.kind, "title": d.title, "low": d.low, "high": d.high} for d in DIMENSIONS
        ],
        "intro": intro,
        "hints": {hint.name: hint.text for hint in hints},
        "tasks": [
            {
                "id": task.id,
                "messages": [list(message) for message in task.messages],
                "replies": [list(reply) for reply in task.replies],
            }
            for task in audit.tasks
        ],
    }


def render(audit: Audit) -> str:
    """The page."""
    style, script = _part("page.css"), _part("page.js")
    parts = {
        "title": escape(audit.title),
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "style": style,
        "script": script,
        "data": _json(data_of(audit)),  # last: what it holds is not looked at for places to fill
    }
    page = _part("page.html")
    before, mark, after = page.partition("{{data}}")
    assert mark, "the page has a place for its data"
    for name, text in parts.items():
        if name != "data":
            before, after = (half.replace("{{" + name + "}}", text) for half in (before, after))
    return before + parts["data"] + after
