"""A teacher behind a real socket says what it says in this process; what doesn't fit is refused before notes leave."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from pride_mm.data.shards import ShardSet
from pride_mm.data.teaching import Lesson
from pride_mm.errors import BadSamples, UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.schema import Role
from pride_mm.teacher import cache
from pride_mm.teacher.client import Client
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.remote_teacher import RemoteTeacher
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import Question
from pride_mm.training import loop
from tests.openai_server import KEY, MODEL, OpenAIServer
from tests.pride_mm.conftest import NOTE

ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
PROMPTS = [Question([1, 403, 407, 261]), Question([1, 263]), Question([1, 378, 314, 433, 264, 379])]
RESPONSES = [[261, 378, 2], [403], [264, 400, 350, 2]]


def at(openai: OpenAIServer, place: str = "/v1", **given: object) -> RemoteTeacher:
    client = Client(openai.url.replace("/v1", place), MODEL, KEY, wait=lambda seconds: None)
    return RemoteTeacher(client, **{"tokenizer": openai.teacher.tokenizer, "top_k": 16, **given})  # type: ignore[arg-type]


def test_it_scores_as_the_same_model_does_here(openai: OpenAIServer) -> None:
    here = Teacher(openai.teacher.model, openai.teacher.tokenizer, top_k=16).score(PROMPTS, RESPONSES, [False] * 3)
    there = at(openai).score(PROMPTS, RESPONSES, [False] * 3)
    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(theirs.response_ids, ours.response_ids)
        assert torch.equal(theirs.ids, ours.ids)
        for name in ("log_probs", "gold_log_probs"):
            assert torch.allclose(getattr(theirs, name), getattr(ours, name), rtol=0, atol=1e-4), name
        # what float32 leaves of 1: as a mass it is right, as its logarithm where there is much of it
        assert torch.allclose(theirs.log_tail.exp(), ours.log_tail.exp(), rtol=0, atol=1e-6)
        assert theirs.features.shape == (0,)
        mass = theirs.log_probs.double().exp().sum(-1) + theirs.log_tail.double().exp()
        assert torch.allclose(mass, torch.ones_like(mass), rtol=0, atol=1e-6)


def test_of_all_but_one_token_the_mass_outside_is_finite(openai: OpenAIServer) -> None:
    (lesson,) = at(openai, top_k=10_000).score(PROMPTS[:1], RESPONSES[:1], [False])
    assert lesson.ids.shape == (3, len(openai.teacher.tokenizer) - 1)
    assert bool((lesson.log_tail >= math.log(2**-23) - 1e-6).all())


def test_it_writes_what_the_same_model_writes_here(openai: OpenAIServer) -> None:
    assert at(openai).write(PROMPTS, 20) == [openai.teacher.write([prompt], 20)[0] for prompt in PROMPTS]
    asked = openai.seen[-1]
    assert (asked["stop_token_ids"], asked["ignore_eos"]) == ([openai.teacher.tokenizer.eos_token_id], True)


def swapped(small_model: Path, folder: Path) -> object:
    """A tokenizer of as many ids, two of which have changed places."""
    shutil.copytree(small_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "tokenizer.json").chmod(0o644)
    said = json.loads((folder / "tokenizer.json").read_text())
    names = {number: token for token, number in said["model"]["vocab"].items()}
    said["model"]["vocab"] |= {names[400]: 404, names[404]: 400}
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return AutoTokenizer.from_pretrained(folder)


def test_what_does_not_fit_is_refused_by_name(openai: OpenAIServer, small_model: Path, tmp_path: Path) -> None:
    before = len(openai.seen)
    with pytest.raises(UserError, match=r"has no model 'other', it has stories: choose by --model"):
        RemoteTeacher(Client(openai.url, "other", KEY), openai.teacher.tokenizer)
    with pytest.raises(UserError, match=r"tokenizer is not that of 'stories': .*takes token 40[04] for .*--tokenizer"):
        at(openai, tokenizer=swapped(small_model, tmp_path / "swapped"))
    with pytest.raises(UserError, match=r"fewer than 64 log-probabilities.*--max-logprobs 64.*--top-k"):
        at(openai, "/few", top_k=64)
    assert at(openai, "/few", top_k=20).kept == 20
    with pytest.raises(UserError, match="gives no prompt_logprobs: teaching needs vLLM"):
        at(openai, "/openai")
    with pytest.raises(UserError, match="doesn't give: take at least 1"):
        at(openai, top_k=0)
    with pytest.raises(UserError, match="failed with HTTP 500"):
        at(openai, "/broken")
    with pytest.raises(UserError, match=r"HTTP 401.*PRIDE_OPENAI_API_KEY"):
        RemoteTeacher(Client(openai.url, MODEL, "sk-secret"), openai.teacher.tokenizer)
    assert all(len(asked["prompt"]) == 1 for asked in openai.seen[before:]), "nothing but probes"


def test_a_busy_server_is_asked_again(openai: OpenAIServer) -> None:
    assert len(at(openai, "/busy").write(PROMPTS, 4)) == 3


def test_notes_do_not_go_over_a_network_in_the_clear(openai: OpenAIServer) -> None:
    client = Client("http://192.0.2.1:8000/v1", MODEL)
    with pytest.raises(UserError, match=r"unencrypted: use https, or a tunnel.*--insecure"):
        RemoteTeacher(client, openai.teacher.tokenizer)


@pytest.fixture(scope="module")
def taught_from_afar(bare_shards: Path, openai: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(bare_shards, tmp_path_factory.mktemp("afar") / "shards"))
    shards = ShardSet.open(folder)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", limit=1024)
    cache.teach(shards, at(openai), prompt, BadSamples(0), MODEL, 12)
    return folder


def test_its_cache_is_as_the_same_models_here(taught: Path, taught_from_afar: Path) -> None:
    ours, theirs = (cache.open_cache(ShardSet.open(folder)) for folder in (taught, taught_from_afar))
    assert theirs.counts == ours.counts
    assert theirs.gain is not None
    assert ours.gain is not None
    assert theirs.gain.nats == pytest.approx(ours.gain.nats, abs=1e-4)
    assert (theirs.weights_sha256, theirs.features) == (None, 0)
    assert theirs.server is not None
    assert (theirs.server.model, theirs.server.reported) == (MODEL, "tiny")
    for here, there in zip(
        ShardSet.open(taught).samples("train", ROLES, teacher=True),
        ShardSet.open(taught_from_afar).samples("train", ROLES, teacher=True),
        strict=True,
    ):
        one, other = Lesson.from_bytes(here.teacher), Lesson.from_bytes(there.teacher)
        assert one.response_ids.tolist() == other.response_ids.tolist()
        assert one.written == other.written
        assert torch.allclose(one.gold_log_probs, other.gold_log_probs, rtol=0, atol=1e-4)
    record = (taught_from_afar / "teacher.json").read_text()
    assert NOTE not in record
    assert KEY not in record


def test_a_student_learns_from_it_without_features(taught_from_afar: Path, small_model: Path, tmp_path: Path) -> None:
    from tests.pride_mm.training.test_loop import settings

    shards = ShardSet.open(taught_from_afar)
    with pytest.raises(UserError, match=r"'stories' answered from a server, .*set loss\.mmd=0, or run 'pride teach'"):
        loop.train(settings(small_model), shards, tmp_path)
    trained = loop.train(settings(small_model, loss=DualAlignment(mmd=0.0)), shards, tmp_path)
    assert trained.steps == 6


def test_the_command(
    bare_shards: Path,
    openai: OpenAIServer,
    small_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pipelines.cli import run

    monkeypatch.setenv("PRIDE_OPENAI_API_KEY", KEY)
    folder = shutil.copytree(bare_shards, tmp_path / "shards")
    given = ["teach", str(folder), "--server", openai.url, "--model", MODEL, "--top-k", "4", "--max-prompt", "1024"]
    assert run(given) == 2
    assert "Tokenizer 'stories' is neither a folder here nor a model" in capsys.readouterr().err
    given += ["--tokenizer", str(small_model)]
    for more, said in (("--adapt=1", "--adapt changes a model in this process"), ("--fp8", "--fp8 is for states")):
        assert run([*given, more]) == 2
        assert said in capsys.readouterr().err
    assert run(given) == 0
    said = "".join(capsys.readouterr())
    assert f"16 of 16 samples scored by {MODEL}, 14 of them with notes" in said
    assert KEY not in said
    assert NOTE not in said
    assert cache.open_cache(ShardSet.open(folder)).top_k == 4
