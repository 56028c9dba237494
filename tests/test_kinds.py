"""A new kind is a place to fill in here and there; this says where."""

import pytest

from annotate.agreement import MEASURES
from annotate.consensus.rules import RULES
from annotate.exchange.table import COLUMNS
from annotate.page.label_config import CONTROLS, OBJECTS
from annotate.page.results import READERS, WRITERS
from pride_mm import fields
from pride_mm.data import members
from pride_mm.data.render import RENDERERS
from pride_mm.evaluation.leakage import ALTERATIONS
from pride_mm.schema import Kind

MEDIA = {Kind.VIDEO, Kind.AUDIO}
ALL = set(Kind)
WORDS = ALL - MEDIA
NOTED = WORDS - {Kind.DIALOGUE}

REGISTRIES = {
    "pride_mm.fields._SHAPES": (set(fields._SHAPES), ALL),
    "pride_mm.data.members._FORMS or _STREAMS": (set(members._FORMS) | set(members._STREAMS) | {Kind.TEXT}, ALL),
    "pride_mm.data.render.RENDERERS": (set(RENDERERS), WORDS),
    "annotate.page.label_config.OBJECTS or CONTROLS": (set(OBJECTS) | set(CONTROLS), ALL),
    "annotate.page.label_config.OBJECTS": (set(OBJECTS), MEDIA | {Kind.DIALOGUE}),
    "annotate.page.results.WRITERS": (set(WRITERS), NOTED),
    "annotate.page.results.READERS": (set(READERS), NOTED),
    "annotate.exchange.table.COLUMNS": (set(COLUMNS), NOTED),
    "annotate.agreement.MEASURES": (set(MEASURES), NOTED),
    "annotate.consensus.rules.RULES": (set(RULES), NOTED),
    "pride_mm.evaluation.leakage.ALTERATIONS": (set(ALTERATIONS), NOTED),
}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_registry_by_kind_covers_what_it_must(registry: str) -> None:
    has, needs = REGISTRIES[registry]
    assert has == needs, (
        f"{registry} lacks {sorted(needs - has) or 'nothing'}; needless: {sorted(has - needs) or 'none'}"
    )


def test_every_kind_has_a_class_of_field() -> None:
    classes = [kind for kind in Kind for field in _leaves(fields.FieldBase) if _kind(field) == kind]
    missing, twice = ALL - set(classes), len(classes) != len(set(classes))
    assert not missing, f"no subclass of FieldBase in pride_mm.fields for: {sorted(missing)}"
    assert not twice, "a kind has two classes"


def _leaves(base: type) -> list[type]:
    below = base.__subclasses__()
    return [leaf for child in below for leaf in _leaves(child)] if below else [base]


def _kind(field: type) -> object:
    return field.model_fields["kind"].annotation.__args__[0]  # type: ignore[attr-defined]
