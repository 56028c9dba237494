"""A student's folder: the same bits back, plain `transformers` opens it, and what is broken is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pride_mm.errors import UserError
from pride_mm.student import load_student, save_student


@pytest.fixture
def folder(tmp_path, student, small_backbone):
    save_student(tmp_path / "student", student, small_backbone[1])
    return tmp_path / "student"


def test_the_same_bits_come_back(folder, student, schema, inputs, response):
    loaded, tokenizer, served = load_student(folder)
    mine, theirs = student.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert torch.equal(student.respond(inputs, response).hidden, loaded.respond(inputs, response).hidden)
    assert loaded.head.weight is loaded.get_input_embeddings().weight
    assert not loaded.training
    assert served == schema.served()
    assert tokenizer.decode(tokenizer("so it goes").input_ids, skip_special_tokens=True) == "so it goes"
    assert loaded.generation_config.eos_token_id == student.generation_config.eos_token_id == 2


def test_plain_transformers_opens_it(folder, student, inputs):
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(loaded.answer(inputs, max_new_tokens=4), student.answer(inputs, max_new_tokens=4))
    ids = AutoTokenizer.from_pretrained(folder)("so", return_tensors="pt").input_ids
    assert loaded.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]


def test_the_folder_is_text_and_safetensors_and_knows_nothing_privileged(folder, schema):
    files = sorted(path.name for path in folder.iterdir())
    assert {name.rsplit(".", 1)[1] for name in files} == {"json", "safetensors"}
    said = (folder / "config.json").read_text() + " ".join(load_file(folder / "model.safetensors"))
    assert not [field.name for field in schema.privileged if f'"name": "{field.name}"' in said]


def test_who_may_read_one_file_may_read_all(folder):
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_saving_twice_replaces_and_leaves_nothing_beside(folder, student, small_backbone):
    save_student(folder, student, small_backbone[1])
    assert [path.name for path in folder.parent.iterdir()] == ["student"]


def test_a_failed_save_leaves_what_was_there(folder, student):
    class Broken:
        def save_pretrained(self, _folder):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_student(folder, student, Broken())
    assert [path.name for path in folder.parent.iterdir()] == ["student"]
    load_student(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_or_broken_file_is_named(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=name):
        load_student(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_student(folder)


def test_weights_of_another_student(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["attention.source"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit its config.json: attention\.source"):
        load_student(folder)


def test_a_schema_with_notes_smuggled_in(folder, schema):
    config = json.loads((folder / "config.json").read_text())
    config["served_schema"] = schema.model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no privileged fields"):
        load_student(folder)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="No student at"):
        load_student(tmp_path / "nothing")
