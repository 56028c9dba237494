"""A real model behind a real socket, and what goes wrong with servers."""

import socket
from typing import Any

import pytest

from pride_mm.data.conversation import Message
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Item
from pride_mm.schema import Turn, load_schema
from pride_mm.teacher.client import Client
from pride_mm.teacher.drafting import Drafter, DraftPrompt
from pride_mm.teacher.local_writer import LocalWriter
from pride_mm.teacher.remote_writer import RemoteWriter, named_option
from pride_mm.teacher.scoring import Teacher
from tests.openai_server import KEY, MODEL, OpenAIServer

CHAT: list[Message] = [{"role": "user", "content": "Lily lost her toy. She began to cry."}]


@pytest.fixture
def writer(openai: OpenAIServer) -> RemoteWriter:
    return RemoteWriter(Client(openai.url, MODEL, KEY), max_tokens=24)


def at(openai: OpenAIServer, place: str, **given: Any) -> RemoteWriter:
    return RemoteWriter(Client(openai.url.replace("/v1", place), MODEL, KEY, **given), max_tokens=12)


def test_it_says_what_the_same_model_says_here(writer: RemoteWriter, storyteller: Teacher) -> None:
    here, there = LocalWriter(storyteller, max_tokens=24).write(CHAT), writer.write(CHAT)
    assert there.text == here.text
    assert there.probability == pytest.approx(here.probability, abs=1e-5)


def test_an_item_is_drafted_and_what_it_did_not_answer_is_named(openai: OpenAIServer, writer: RemoteWriter) -> None:
    schema = load_schema("pride")
    talk = (Turn(speaker="a", text="I lost my job."),)
    item = Item(id="i-1", corpus="c", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": talk}})
    bad = BadSamples()
    drafted = Drafter(DraftPrompt.load(schema), writer, bad).draft(
        item, [schema.get("situation"), schema.get("expression")]
    )
    assert drafted.values["situation"]
    assert drafted.score is not None
    asked = openai.seen[-1]["messages"]
    assert [message["role"] for message in asked] == ["system", "user"]
    assert "I lost my job." in asked[1]["content"]
    # a model this small tells a story instead of naming a level, and then its field stays open
    assert len(drafted.values) + len(bad) == 2
    for error in bad:
        assert str(error) == "i-1: expression: the model named none of: 0, 1, 2"


def test_no_key_no_header(openai: OpenAIServer) -> None:
    with pytest.raises(UserError, match=r"refuses the key \(HTTP 401\).*PRIDE_OPENAI_API_KEY"):
        RemoteWriter(Client(openai.url, MODEL, " ")).write(CHAT)
    assert "authorization" not in openai.headers[-1]


def test_a_wrong_key_is_not_repeated(openai: OpenAIServer) -> None:
    with pytest.raises(UserError, match="HTTP 401") as caught:
        RemoteWriter(Client(openai.url, MODEL, "sk-secret")).write(CHAT)
    assert "secret" not in str(caught.value)


def test_another_model_is_named(openai: OpenAIServer) -> None:
    with pytest.raises(UserError, match=r"has no model 'gpt-nothing'.*--model"):
        RemoteWriter(Client(openai.url, "gpt-nothing", KEY)).write(CHAT)


def test_a_busy_server_is_asked_again_when_it_says(openai: OpenAIServer) -> None:
    waited: list[float] = []
    assert at(openai, "/busy", wait=waited.append).write(CHAT).text
    assert waited == [0.25, 0.25]


def test_a_stricter_server_gets_less_and_is_remembered(openai: OpenAIServer) -> None:
    strict = at(openai, "/strict")
    assert strict.write(CHAT).probability is None
    before = len(openai.seen)
    assert strict.write(CHAT).text
    assert len(openai.seen) == before + 1
    assert openai.seen[-1].keys() == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("/broken", r"failed with HTTP 500"),
        ("/page", "is no OpenAI-compatible server"),
        ("/other", "is no OpenAI-compatible server"),
        ("/nothing", "or no chat completions"),
        ("/moved", "failed with HTTP 307"),
    ],
)
def test_one_line_each(openai: OpenAIServer, place: str, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        at(openai, place, wait=lambda seconds: None).write(CHAT)
    assert "\n" not in str(caught.value)
    assert "out of memory" not in str(caught.value)


def test_a_redirect_takes_no_key_along(openai: OpenAIServer) -> None:
    before = len(openai.seen)
    with pytest.raises(UserError):
        at(openai, "/moved").write(CHAT)
    assert len(openai.seen) == before


def test_silence_ends(openai: OpenAIServer) -> None:
    waited: list[float] = []
    with pytest.raises(UserError, match=r"stopped answering \(ReadTimeout\).*what is done stays"):
        at(openai, "/slow", timeout=0.1, wait=waited.append).write(CHAT)
    assert waited == [1.0, 2.0, 4.0]


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(UserError, match="No server answers"):
            RemoteWriter(Client(url, MODEL)).write(CHAT)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("sad", "sad"),
        ('"Sad."', "sad"),
        ("The person is **sad** here.", "sad"),
        ("very sad", "very sad"),
        ("sad or happy", None),
        ("saddened", None),
        ("-1", "-1"),
        ("I'd say 1", "1"),
        ("", None),
    ],
)
def test_an_option_is_named_or_none_is(text: str, option: str | None) -> None:
    assert named_option(text, ("sad", "very sad", "happy", "1", "-1")) == option
