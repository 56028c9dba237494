from itertools import combinations
from xml.etree import ElementTree

import pytest

from annotate.page.label_config import Page, control_names, label_config, page_of, task_data
from pride_mm.schema import Media, Role, Schema, Turn, load_schema

RENDERS_MARKUP = {"HyperText", "Markdown", "Table", "ReactCode", "Chat", "PagedView"}
SCHEMAS = ["pride", "empathetic_dialogues", "every_kind"]


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest, every_kind: Schema) -> Schema:
    return every_kind if request.param == "every_kind" else load_schema(request.param)


def pages(schema: Schema) -> list[Page]:
    names = [f.name for f in schema.inputs if f.kind.value in ("video", "audio")]
    return [Page(schema, media) for n in range(len(names) + 1) for media in combinations(names, n)]


def test_every_page_asks_for_its_fields_in_the_order_of_the_steps(schema: Schema) -> None:
    for page in pages(schema):
        root = ElementTree.fromstring(label_config(page))
        asked = [tag.get("name", "").split("-")[0] for tag in root.iter() if tag.get("toName")]
        assert asked == [field.name for field in page.controls]
        steps = [field.step for field in page.controls if field.step]
        assert steps == sorted(steps, key=["feelings", "situation", "response"].index)
        missing = {f.name for f in schema.field if f.role is not Role.INPUT} - set(asked)
        assert not missing or not page.media, f"{missing} cannot be annotated though there is a clip"


def test_every_page_is_sound(schema: Schema) -> None:
    """What Label Studio's own check lets through: unknown variables, controls of nothing, tags that run markup."""
    talk = (Turn(speaker="a", text="b"),)
    for page in pages(schema):
        root = ElementTree.fromstring(label_config(page))
        names = [tag.get("name") for tag in root.iter() if tag.get("name")]
        assert len(set(names)) == len(names)
        assert all(tag.get("toName") in names for tag in root.iter() if tag.get("toName"))
        data = task_data(page, "x", {schema.dialogue.name: talk}, dict.fromkeys(page.media, "/a"), 25.0)
        used = {
            v[1:].split("[")[0]
            for tag in root.iter()
            for key, v in tag.attrib.items()
            if key != "alias" and v[:1] == "$"
        }
        shown = {v for v in used if "\u200b" not in v}
        assert shown <= set(data)
        assert not RENDERS_MARKUP & {tag.tag for tag in root.iter()}
        assert all(tag.get("contextScroll") is None for tag in root.iter())


def test_guideline_title_and_requirement_are_on_the_page(pride: Schema) -> None:
    page = Page(pride, ("video", "audio"))
    root = ElementTree.fromstring(label_config(page))
    said = {tag.get("value", "") for tag in root.iter("Header")}
    for field in page.controls:
        assert any(text.startswith(field.guideline) for text in said)
        assert field.label + (" *" if field.required else "") in said
    required = {tag.get("name") for tag in root.iter() if tag.get("required") == "true"}
    assert required == {"situation", "emotion"}


def test_spans_are_marked_on_sound_before_video(pride: Schema) -> None:
    tags = {
        media: ElementTree.fromstring(label_config(Page(pride, media))) for media in (("video", "audio"), ("video",))
    }
    assert tags["video", "audio"].find(".//Labels").get("toName") == "audio"  # type: ignore[union-attr]
    assert tags["video",].find(".//TimelineLabels").get("toName") == "video"  # type: ignore[union-attr]


def test_the_schema_cannot_name_variables_of_the_task(every_kind: Schema) -> None:
    root = ElementTree.fromstring(label_config(Page(every_kind, ())))
    options = [(tag.get("value"), tag.get("alias")) for tag in root.iter("Choice")]
    assert ("$\u200bloss", "$loss") in options
    assert not any("$5" in tag.get("value", "") or "{{idx}}?" in tag.get("value", "") for tag in root.iter("Header"))


def test_an_edited_page_is_told_from_ours(pride: Schema) -> None:
    ours = label_config(Page(pride, ()))
    assert control_names(ours) == control_names(ours.replace("pride-field", "other-look"))
    assert control_names(ours) != control_names(ours.replace('alias="sad"', 'alias="blue"'))
    assert control_names(ours) != control_names(ours.replace('name="analysis"', 'name="essay"'))
    assert control_names("<View") == frozenset()


def test_a_page_is_for_the_media_that_an_item_has(pride: Schema) -> None:
    talk = (Turn(speaker="a", text="b"),)
    assert page_of(pride, {"dialogue": talk}).media == ()
    assert page_of(pride, {"dialogue": talk, "audio": Media(path="x")}).name == "audio"


def test_no_key_is_given_twice_and_turns_take_none(schema: Schema) -> None:
    for page in pages(schema):
        root = ElementTree.fromstring(label_config(page))
        turns = {tag for box in root.iter("Repeater") for tag in box.iter("Choice")}
        keys = [tag.get("hotkey", "") for tag in root.iter() if tag.tag in ("Choice", "Label")]
        assert all(keys), "Label Studio would deal out keys of its own"
        assert len(set(keys)) == len(keys)
        real = [key for key in keys if len(key) == 1]
        assert set(real) <= set("1234567890qwetyiopasdfgjklzxcvbnm")
        assert not [tag for tag in turns if tag.get("hotkey") in real]


def test_the_keys_of_the_shipped_page(pride: Schema) -> None:
    keys = Page(pride, ("video", "audio")).keys
    assert keys["emotion"] == tuple("12345678")
    assert keys["sentiment"] == tuple("qwe")
    assert len({key for own in keys.values() for key in own}) == 8 + 3 + 3 * 3 + 2


def test_a_long_guideline_folds_away(pride: Schema) -> None:
    wordy = pride.field[-1].model_copy(update={"guideline": "Long. " * 100})
    schema = pride.model_copy(update={"field": (*pride.field[:-1], wordy)})
    root = ElementTree.fromstring(label_config(Page(schema, ())))
    (panel,) = [tag for tag in root.iter("Panel") if tag.get("value") == "Guideline"]
    assert panel.find("Header").get("value") == wordy.guideline  # type: ignore[union-attr]


def test_no_two_radio_buttons_of_two_fields_have_one_name():
    root = ElementTree.fromstring(label_config(Page(load_schema("pride"), ("video", "audio"))))
    fields = [tag for tag in root.iter("Choices") if tag.get("choice") == "single-radio"]
    aliases = [option.get("alias") for field in fields for option in field]
    names = [option.get("value") for field in fields for option in field]
    assert aliases.count("neutral") > 1
    assert len(set(names)) == len(names)
    assert [name.replace("\u200b", "") for name in names] == aliases
