"""Teachers that see and hear: small random models of real kinds, with their own processors, on real clips and sound."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from pride_mm.data.conversation import chat_ids, messages
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.schema import Role, load_schema
from pride_mm.teacher.cache import open_cache, teach
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import load_seeing

CHAT = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}{{ shown[part.type] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
WORDS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = ("clips", "pictures", "sounds")
SHOWN = {"clips": ("video",), "pictures": ("video",), "sounds": ("audio",)}


def template(**shown: str) -> str:
    return "{% set shown = " + json.dumps(shown) + " %}" + CHAT


def of_clips(tokenizer: Any) -> tuple[Any, Any]:
    """Qwen2-VL: a clip of eight frames is four times sixty-four places."""
    wide = {"patch_size": 14, "min_pixels": 28 * 28, "max_pixels": 224 * 224}
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    start, end, image, video = (tokenizer.convert_tokens_to_ids(name) for name in names)
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**wide),
        tokenizer,
        Qwen2VLVideoProcessor(**wide),
        chat_template=template(
            image="<|vision_start|><|image_pad|><|vision_end|>", video="<|vision_start|><|video_pad|><|vision_end|>"
        ),
    )
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config=WORDS | {"vocab_size": len(tokenizer), "num_key_value_heads": 4, "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 32, "num_heads": 4, "hidden_size": 32, "mlp_ratio": 2},
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    return Qwen2VLForConditionalGeneration(config), processor


def of_pictures(tokenizer: Any) -> tuple[Any, Any]:
    """LLaVA: each picture is nine places."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template(image="<image>"),
    )
    eyes = CLIPVisionConfig(**WORDS, image_size=42, patch_size=14)
    words = LlamaConfig(**WORDS, vocab_size=len(tokenizer))
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=eyes, text_config=words, image_token_id=image)
    return LlavaForConditionalGeneration(config), processor


def of_sounds(tokenizer: Any) -> tuple[Any, Any]:
    """Qwen2-Audio: 25 places a second."""
    names = ["<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    processor = Qwen2AudioProcessor(
        WhisperFeatureExtractor(feature_size=128),
        tokenizer,
        chat_template=template(audio="<|audio_bos|><|AUDIO|><|audio_eos|>"),
    )
    ears = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    words = Qwen2Config(**WORDS, vocab_size=len(tokenizer), num_key_value_heads=4)
    sound = tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    config = Qwen2AudioConfig(audio_config=ears, text_config=words, audio_token_id=sound)
    return Qwen2AudioForConditionalGeneration(config), processor


MAKERS = {"clips": of_clips, "pictures": of_pictures, "sounds": of_sounds}


@pytest.fixture(scope="module", params=KINDS)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, other_family: Path) -> Path:
    """A folder as the hub has them; its name says what it takes."""
    folder = tmp_path_factory.mktemp("seeing") / request.param
    torch.manual_seed(7)
    model, processor = MAKERS[request.param](PreTrainedTokenizerFast.from_pretrained(other_family))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(seeing: Path) -> Teacher:
    loaded = load_seeing(seeing, load_schema("pride"))
    assert loaded is not None
    model, tokenizer, senses = loaded
    return Teacher(model, tokenizer, top_k=8, senses=senses)


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    return Prompt.load(load_schema("pride"), "empathy_reasoning", limit=2048)


@pytest.fixture(scope="module")
def clip(bare_shards: Path) -> Sample:
    """Seen, heard and read."""
    reader = ShardSet.open(bare_shards).samples("train", tuple(Role))
    return next(sample for sample in reader if sample.key == "clip")


RESPONSE = [300, 301, 302, 5]


def log_probs(teacher: Teacher, prompt: Prompt, sample: Sample) -> torch.Tensor:
    (lesson,) = teacher.score([prompt.question(sample, teacher.read)], [RESPONSE], [False])
    return lesson.gold_log_probs


def other_clip(sample: Sample, data_dir: Path) -> Sample:
    """Of another face, with another voice."""
    data = (data_dir / "mosi_mini/clips/03bSnISJMiM_1.mp4").read_bytes()
    return replace(sample, inputs=sample.inputs | {"video": data, "audio": data})


def test_what_it_says_depends_on_what_it_is_shown(teacher: Teacher, prompt: Prompt, clip: Sample, data_dir: Path):
    shown = log_probs(teacher, prompt, clip)
    words_alone = replace(clip, inputs={"dialogue": clip.inputs["dialogue"]})
    assert not torch.allclose(shown, log_probs(teacher, prompt, words_alone), atol=1e-4)
    assert not torch.allclose(shown, log_probs(teacher, prompt, other_clip(clip, data_dir)), atol=1e-5)
    assert torch.equal(shown, log_probs(teacher, prompt, clip))


def test_it_is_scored_as_the_model_itself_scores(teacher: Teacher, prompt: Prompt, clip: Sample):
    question = prompt.question(clip, teacher.read)
    row = torch.tensor([question.ids + RESPONSE])
    with torch.no_grad():
        logits = teacher.model(input_ids=row, **question.before(row.shape[1])).logits
    theirs = logits.log_softmax(-1)[0, -5:-1].gather(-1, torch.tensor(RESPONSE)[:, None])[:, 0]
    (lesson,) = teacher.score([question], [RESPONSE], [False])
    assert torch.allclose(lesson.gold_log_probs, theirs, atol=1e-4)


def test_side_by_side_is_one_by_one(teacher: Teacher, prompt: Prompt, clip: Sample):
    words = replace(clip, inputs={"dialogue": clip.inputs["dialogue"]})
    questions = [prompt.question(sample, teacher.read) for sample in (words, clip)]
    for question, lesson in zip(questions, teacher.score(questions, [RESPONSE] * 2, [False] * 2), strict=True):
        (alone,) = teacher.score([question], [RESPONSE], [False])
        assert torch.equal(lesson.gold_log_probs, alone.gold_log_probs)
    assert teacher.write(questions, 5) == [teacher.write([question], 5)[0] for question in questions]


def test_a_writer_of_marks_shows_nothing(teacher: Teacher, prompt: Prompt, clip: Sample):
    """Who writes what stands for a picture has written words."""
    marks = [mark for mark in teacher.tokenizer.all_special_tokens if "<" in mark]
    (turn,) = clip.inputs["dialogue"]  # type: ignore[misc]
    said = (turn.model_copy(update={"text": f"look {' '.join(marks)}"}),)
    plain = prompt.question(clip, teacher.read)
    marked = prompt.question(replace(clip, inputs=clip.inputs | {"dialogue": said}), teacher.read)
    for mark in marks:
        number = teacher.tokenizer.convert_tokens_to_ids(mark)
        assert marked.ids.count(number) == plain.ids.count(number)


def test_what_it_is_shown_counts_and_notes_are_not_cut(teacher: Teacher, prompt: Prompt, clip: Sample):
    length = len(prompt.question(clip, teacher.read).ids)
    assert length > len(chat_ids(teacher.tokenizer, messages(clip.inputs["dialogue"], ""))) + 40  # type: ignore[arg-type]
    short = Prompt.load(load_schema("pride"), "empathy_reasoning", limit=length - 1)
    with pytest.raises(SampleError, match=rf"what is shown and last turn take {length} tokens, {length - 1} are"):
        short.question(clip, teacher.read)


def test_a_cache_of_it(teacher: Teacher, seeing: Path, prompt: Prompt, bare_shards: Path, tmp_path: Path):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    shards = ShardSet.open(folder)
    record = teach(shards, teacher, prompt, BadSamples(0), "seeing", 12)
    assert open_cache(shards, teacher.tokenizer, 12).shown_fields == SHOWN[seeing.name] == record.shown_fields
    assert (record.counts.scored, record.counts.kept) == (16, 0)
    tars = {shard: tar.sha256 for shard, tar in record.tars.items()}
    again = teach(shards, teacher, prompt, BadSamples(0), "seeing", 12)
    assert again.counts.kept == 16
    assert {shard: tar.sha256 for shard, tar in again.tars.items()} == tars


def test_other_clips_are_asked_about_again(teacher: Teacher, prompt: Prompt, clip: Sample, data_dir: Path):
    plain, other = (prompt.question(sample, teacher.read) for sample in (clip, other_clip(clip, data_dir)))
    assert plain.sha256() == prompt.question(clip, teacher.read).sha256() != other.sha256()


def test_a_broken_clip_is_named(teacher: Teacher, seeing: Path, prompt: Prompt, clip: Sample):
    (name,) = SHOWN[seeing.name]
    broken: Any = clip.inputs[name][:2000]  # type: ignore[index]
    with pytest.raises(SampleError) as caught:
        prompt.question(replace(clip, inputs=clip.inputs | {name: broken}), teacher.read)
    assert (caught.value.place, caught.value.field) == ("clip", name)


def test_what_only_reads_has_no_senses(small_model: Path, tmp_path: Path):
    assert load_seeing(small_model, load_schema("pride")) is None
    assert load_seeing("smollm2-135m", load_schema("pride")) is None
    with pytest.raises(UserError, match="it has no config"):
        load_seeing(tmp_path, load_schema("pride"))
