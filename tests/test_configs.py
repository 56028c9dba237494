"""Every shipped config loads, and no code names a field of a schema."""

import ast
from pathlib import Path

import pytest
from jinja2 import Environment
from jinja2.meta import find_undeclared_variables

from pipelines.pack.settings import PackSettings
from pipelines.quality.settings import QualitySettings
from pipelines.sources.corpus import load_corpus
from pride_mm.config import CONFIGS, load_settings
from pride_mm.schema import Role, Schema, load_schema
from pride_mm.serving.safety import load_safety
from pride_mm.teacher.prompt import Prompt
from pride_mm.training.settings import RunSettings

ROOT = Path(__file__).parent.parent
CODE = sorted(path for room in ("pride_mm", "annotate", "pipelines") for path in (ROOT / room).rglob("*.py"))

ALLOWED = {
    # the three steps of the empathy-reasoning prompt have names that fields have, too
    "pride_mm/fields.py": {"feelings", "situation", "response"},
    "pride_mm/teacher/prompt.py": {"feelings", "situation", "response"},
    "annotate/page/label_config.py": {"feelings", "situation", "response"},
}
# Names of fields that are everyday words of code as well: media types, chat roles, columns of a corpus.
EVERYDAY = {"video", "audio", "dialogue", "response", "emotion", "shift", "future"}


def shipped(folder: str, suffix: str = "toml") -> list[str]:
    names = sorted(path.stem for path in (CONFIGS / folder).glob(f"*.{suffix}"))
    assert names, f"no configs in {folder}"
    return names


def test_the_folder_of_configs_has_what_is_looked_at_here() -> None:
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} >= {"schema", "corpus", "run", "prompt", "pack"}


@pytest.mark.parametrize("name", shipped("schema"))
def test_schema(name: str) -> None:
    schema = load_schema(name)
    assert schema.name == name
    assert schema.privileged
    # what an expert or the teacher reads
    assert all(field.guideline and field.step for field in schema.field if field.role is not Role.INPUT)
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


@pytest.mark.parametrize("name", shipped("corpus"))
def test_corpus_names_fields_that_its_schema_has(name: str) -> None:
    corpus = load_corpus(name)
    schema = load_schema(corpus.schema_name)
    for field in corpus.field or corpus.aliases.values():  # where fields are named, an alias is one of a column
        assert schema.get(field)


@pytest.mark.parametrize("name", shipped("pack"))
def test_pack(name: str) -> None:
    assert load_settings(PackSettings, CONFIGS / "pack" / f"{name}.toml").description


@pytest.mark.parametrize("name", shipped("quality"))
def test_quality(name: str) -> None:
    assert load_settings(QualitySettings, CONFIGS / "quality" / f"{name}.toml").description


@pytest.mark.parametrize("name", shipped("safety"))
def test_safety(name: str) -> None:
    safety = load_safety(name)
    assert safety is not None
    assert safety.description
    # it is read where nobody knows the country: numbers are the deployer's to write
    assert not any(letter.isdigit() for letter in safety.referral.text)


@pytest.mark.parametrize("name", shipped("run"))
def test_run(name: str) -> None:
    settings = load_settings(RunSettings, CONFIGS / "run" / f"{name}.toml")
    assert settings.name == name
    assert settings.description


@pytest.mark.parametrize("name", sorted({*shipped("prompt", "j2")} - {"judge"}))
def test_prompt_reads_every_note_by_its_title(name: str) -> None:
    schema = load_schema("pride")
    prompt = Prompt.load(schema, name)
    notes = {"turn_emotion": ("sad", None), "feelings": "Grief.", "situation": "A dog died.", "expression": 1}
    told = prompt.system(notes)
    for field in notes:
        assert schema.get(field).label in told
    assert "A dog died." in told
    assert "None" not in told
    assert prompt.system({})


def test_the_prompt_of_a_judge_has_no_place_for_notes() -> None:
    template = (CONFIGS / "prompt" / "judge.j2").read_text()
    assert find_undeclared_variables(Environment().parse(template)) == {"turns", "a", "b", "aspects"}


def _named(tree: ast.AST, names: set[str]) -> set[str]:
    """String constants that are a field's name: literals, keyword arguments, and attributes are looked at."""
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return found & names


def test_a_named_field_is_found() -> None:
    assert _named(ast.parse("x = notes['turn_emotion']"), {"turn_emotion"}) == {"turn_emotion"}


def test_no_code_names_a_field() -> None:
    names = {field.name for schema in shipped("schema") for field in load_schema(schema).field} - EVERYDAY
    assert {"turn_emotion", "situation", "emotional_reaction", "sentiment"} <= names
    found = {}
    for path in CODE:
        where = str(path.relative_to(ROOT))
        if named := _named(ast.parse(path.read_text()), names) - ALLOWED.get(where, set()):
            found[where] = sorted(named)
    assert not found, f"derive these from the schema by role and kind: {found}"
    unused = {path for path in ALLOWED if not (ROOT / path).is_file()}
    assert not unused, f"allowed, but gone: {unused}"
