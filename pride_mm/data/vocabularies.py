"""Two tokenizers over one text: where their tokens begin together, and which of their tokens are the same string.

For a teacher of another family than the student's. What it says of the next token is of use to the student where
both have read the same bytes; there, its token is the student's where the two spell the same string.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pride_mm.data.teaching import Lesson
from pride_mm.errors import UserError

NO_TOKEN = -1
"""In place of an id: the student has no such token."""
_END = ""
"""What the end of a response spells."""
_LOWEST = -87.0  # the log of the least mass that float32 holds


def token_starts(tokenizer: Any, ids: Sequence[int], text: str) -> list[int]:
    """The byte of ``text`` (UTF-8) at which each token begins; -1 inside a character, and past where they differ.

    Spaces before the text don't count, because some tokenizers want one there: every token up to the text's first
    letter begins at 0.
    """
    whole, starts = text.strip(), []
    for count in range(len(ids)):
        said = tokenizer.decode(ids[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False).lstrip()
        starts.append(len(said.encode()) if whole.startswith(said) else -1)
    return starts


def spellings(tokenizer: Any) -> list[str | None]:
    """What each id spells, a space before it included; the end is an empty string.

    None where it spells nothing by itself: parts of a character, and the other special tokens.
    """
    special = set(tokenizer.all_special_ids)
    spelt: list[str | None] = [None] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        if number < len(spelt) and number not in special:
            # alone, some tokenizers would take the space off
            text = tokenizer.convert_tokens_to_string(["a", token])
            spelt[number] = text[1:] if len(text) > 1 and text[0] == "a" and "\ufffd" not in text else None
    spelt[tokenizer.eos_token_id] = _END
    return spelt


def spellings_to_bytes(spelt: Sequence[str | None]) -> bytes:
    """To be kept beside a cache."""
    return json.dumps(spelt, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Translation:
    """From a teacher's lessons on its own tokens to lessons on the student's.

    Attributes:
        tokenizer: the student's.
        spelt: the teacher's `spellings`; None where only the sizes of its probabilities are asked for, whatever tokens
            they are of (the universal divergence).
    """

    tokenizer: Any
    spelt: tuple[str | None, ...] | None

    @classmethod
    def of(cls, tokenizer: Any, spelt: bytes | None) -> Self:
        """Of a teacher whose spellings were kept as ``spellings_to_bytes`` gives them."""
        return cls(tokenizer, None if spelt is None else tuple(json.loads(spelt)))

    @cached_property
    def _ids(self) -> Int[Tensor, " V"]:
        """The student's id of each of the teacher's; `NO_TOKEN` where there is none."""
        mine: dict[str, int] = {}
        for number, spelling in enumerate(spellings(self.tokenizer)):
            if spelling is not None:
                mine.setdefault(spelling, number)
        theirs = (None if spelling is None else mine.get(spelling) for spelling in self.spelt or ())
        return torch.tensor([NO_TOKEN if number is None else number for number in theirs])

    def lesson(self, lesson: Lesson, ids: Sequence[int], text: str) -> Lesson:
        """The lesson on the student's tokens ``ids`` of the same text.

        Rows count where the teacher has a token that begins at the same byte. Of what it says there, the tokens
        that the student hasn't got are taken as part of the tail.

        Raises:
            UserError: the lesson doesn't say where its tokens begin.
        """
        if lesson.starts is None or lesson.ids is None or lesson.log_probs is None or lesson.log_tail is None:
            raise UserError("The teacher's cache is of an older version. Run 'pride teach' again.")
        rows, counts = _rows(token_starts(self.tokenizer, ids, text), lesson.starts.tolist())
        said = replace(
            lesson,
            response_ids=torch.tensor(ids, dtype=torch.int32),
            ids=lesson.ids[rows].long(),
            log_probs=lesson.log_probs[rows].float(),
            log_tail=lesson.log_tail[rows].float(),
            counts=counts,
        )
        return said if self.spelt is None else self._spelt(said)

    def _spelt(self, lesson: Lesson) -> Lesson:
        assert lesson.ids is not None
        assert lesson.log_probs is not None
        assert lesson.log_tail is not None
        ids = self._ids[lesson.ids]
        # two of its tokens that spell alike are one of the student's, to which the likelier goes
        same = (ids[:, :, None] == ids[:, None, :]).tril(-1).any(-1)
        absent = (ids == NO_TOKEN) | same
        beyond = torch.cat([lesson.log_probs.masked_fill(~absent, -torch.inf), lesson.log_tail[:, None]], 1)
        return replace(
            lesson,
            ids=ids.masked_fill(absent, NO_TOKEN),
            log_probs=lesson.log_probs.masked_fill(absent, _LOWEST),
            log_tail=beyond.logsumexp(1),
            counts=lesson.counts & ~absent.all(1),  # type: ignore[operator]
        )


def _rows(mine: Sequence[int], theirs: Sequence[int]) -> tuple[list[int], Bool[Tensor, " T"]]:
    """For each of my tokens the place of theirs that begins with it, and whether there is one.

    Where several begin at one byte, all but the last spell nothing.
    """
    places = {start: place for place, start in enumerate(theirs) if start >= 0}
    last = {start: place for place, start in enumerate(mine) if start >= 0}
    rows = [places.get(start, 0) for start in mine]
    counts = [last.get(start) == place and start in places for place, start in enumerate(mine)]
    return rows, torch.tensor(counts, dtype=torch.bool)
