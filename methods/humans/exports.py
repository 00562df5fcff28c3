"""An audit as imports of Label Studio and Argilla.

Here belong their formats alone; both are read back by `imports`. Rankings are shown by the page only.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from methods.humans.tasks import Audit, Section, sections
from methods.quality.human import DIMENSIONS, STEPS, Dimension

FLAGS = "flags"
"""The question that all flags are answers to."""
YES, NO = "yes", "no"


def _hints(audit: Audit) -> dict[str, Section]:
    return {section.name: section for section in sections(audit.guidelines)[1]}


def _said(hints: dict[str, Section], name: str) -> str:
    return hints[name].text if name in hints else ""


def _of(kind: str) -> list[Dimension]:
    return [dimension for dimension in DIMENSIONS if dimension.kind == kind]


# ---- Label Studio --------------------------------------------------------------------------------------------------


def label_studio_tasks(audit: Audit) -> list[dict[str, Any]]:
    """The tasks to import; the rows' ids come back with the export."""
    return [
        {
            "data": {
                "row_id": task.id,
                "audit": audit.id,
                "conversation": [{"role": role, "text": content} for role, content in task.messages],
            }
        }
        for task in audit.tasks
        if not task.replies
    ]


def label_studio_config(audit: Audit) -> str:
    """The labelling interface: paste it into the project's settings."""
    hints = _hints(audit)
    parts = [
        "<View>",
        f"  <Header value={quoteattr(audit.title)}/>",
        '  <Paragraphs name="conversation" value="$conversation" layout="dialogue" nameKey="role" textKey="text"/>',
    ]
    for dimension in _of("yes_no"):
        parts += [
            f'  <Header size="5" value={quoteattr(dimension.title)}/>',
            f"  <Text name={quoteattr('about_' + dimension.name)} value={quoteattr(_said(hints, dimension.name))}/>",
            f'  <Choices name={quoteattr(dimension.name)} toName="conversation" choice="single-radio" '
            'showInline="true" required="true">',
            f'    <Choice value="{YES}"/><Choice value="{NO}"/>',
            "  </Choices>",
        ]
    parts += [
        '  <Header size="5" value="Flags"/>',
        f'  <Choices name="{FLAGS}" toName="conversation" choice="multiple" showInline="true">',
        *(
            f"    <Choice value={quoteattr(flag.name)} hint={quoteattr(_said(hints, flag.name) or flag.title)}/>"
            for flag in _of("flag")
        ),
        "  </Choices>",
    ]
    for dimension in _of("likert"):
        title = f"{dimension.title}: 1 {dimension.low}, {STEPS} {dimension.high}"
        parts += [
            f'  <Header size="5" value={quoteattr(title)}/>',
            f"  <Text name={quoteattr('about_' + dimension.name)} value={quoteattr(_said(hints, dimension.name))}/>",
            f'  <Rating name={quoteattr(dimension.name)} toName="conversation" maxRating="{STEPS}"/>',
        ]
    return "\n".join([*parts, "</View>"]) + "\n"


# ---- Argilla -------------------------------------------------------------------------------------------------------


def argilla_records(audit: Audit) -> list[dict[str, Any]]:
    """The records, for ``dataset.records.from_json``."""
    return [
        {
            "id": task.id,
            "fields": {"conversation": [{"role": role, "content": content} for role, content in task.messages]},
            "metadata": {"audit": audit.id},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for task in audit.tasks
        if not task.replies
    ]


def argilla_settings(audit: Audit, raters: int = 3) -> dict[str, Any]:
    """The dataset's settings, for ``Settings.from_json``; a record is done when so many raters have submitted it."""
    hints = _hints(audit)

    def question(name: str, title: str, settings: dict[str, Any], required: bool = True) -> dict[str, Any]:
        text = _said(hints, name) or None
        return {"name": name, "title": title, "description": text, "required": required, "settings": settings}

    def choice(value: str, text: str, said: str = "") -> dict[str, Any]:
        return {"value": value, "text": text, "description": said or None}

    flags = [choice(flag.name, flag.title, _said(hints, flag.name)) for flag in _of("flag")]
    scale = [{"value": step} for step in range(1, STEPS + 1)]
    questions = [
        *(
            question(
                d.name,
                d.title,
                {"type": "label_selection", "options": [choice(YES, "Yes"), choice(NO, "No")], "visible_options": None},
            )
            for d in _of("yes_no")
        ),
        question(
            FLAGS,
            "Flags",
            {
                "type": "multi_label_selection",
                "options": flags,
                "visible_options": len(flags),
                "options_order": "natural",
            },
            required=False,
        ),
        *(
            question(d.name, f"{d.title}: 1 {d.low}, {STEPS} {d.high}", {"type": "rating", "options": scale}, False)
            for d in _of("likert")
        ),
    ]
    conversation = {
        "name": "conversation",
        "title": "Conversation",
        "required": True,
        "settings": {"type": "chat", "use_markdown": False},
    }
    return {
        "guidelines": audit.guidelines,
        "questions": questions,
        "fields": [conversation],
        "vectors": [],
        "metadata": [
            {
                "name": "audit",
                "title": "Audit",
                "settings": {"type": "terms", "values": None},
                "visible_for_annotators": False,
            }
        ],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": raters},
        "mapping": None,
    }
