"""A dialogue as the token ids of a chat that is about to be answered.

Whoever spoke last is the user; everyone else is the assistant. The same rule serves teacher and
student, training and serving, so that what is learnt is what is asked.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pride_mm.schema import Turn

Message = dict[str, str]


def messages(turns: Sequence[Turn], system: str = "") -> list[Message]:
    """Chat messages of the turns, oldest first; neighbours of one role are joined."""
    answered = turns[-1].speaker
    chat: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        role = "user" if turn.speaker == answered else "assistant"
        if chat and chat[-1]["role"] == role:
            chat[-1]["content"] += "\n" + turn.text
        else:
            chat.append({"role": role, "content": turn.text})
    return chat


def chat_ids(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Token ids of a chat up to where the answer begins, by the tokenizer's template or a plain one."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    lines = [f"{message['role']}: {message['content']}\n" for message in chat]
    return list(tokenizer("".join(lines) + "assistant:")["input_ids"])


def fit_turns(tokenizer: Any, turns: Sequence[Turn], system: str, limit: int) -> tuple[list[int], bool]:
    """Ids of at most ``limit`` tokens.

    The oldest turns are left out until the rest fits; a last turn that is too long by itself loses
    its beginning. Returns the ids and whether anything was left out.
    """
    kept = tuple(turns)
    ids = chat_ids(tokenizer, messages(kept, system))
    while len(ids) > limit and len(kept) > 1:
        kept = kept[1:]
        ids = chat_ids(tokenizer, messages(kept, system))
    return ids[-limit:], len(kept) < len(turns) or len(ids) > limit


def response_ids(tokenizer: Any, text: str, limit: int) -> tuple[list[int], bool]:
    """Ids of a response and its end, at most ``limit`` tokens; and whether it was cut.

    A response that is cut has no end: the student must not learn to stop there.
    """
    space = "" if tokenizer.chat_template else " "
    ids = [*tokenizer(space + text.strip(), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return ids[:limit], len(ids) > limit


def tokenizer_sha256(tokenizer: Any) -> str:
    """Equal exactly when two tokenizers give every id the same string."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
