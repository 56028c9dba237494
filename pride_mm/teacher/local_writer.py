"""A causal language model in this process as a writer of drafts.

Letters: ``P`` prompt tokens, ``O`` options, ``L`` tokens of the longest option, ``V`` vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.conversation import Message, chat_ids
from pride_mm.teacher.drafting import Said, whole_sentences
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import Question


class LocalWriter:
    """Drafts by a teacher.

    Args:
        teacher: the model and its tokenizer.
        limit: tokens of a question.
        max_tokens: tokens of a text.
    """

    def __init__(self, teacher: Teacher, limit: int = 1024, max_tokens: int = 96) -> None:
        self.teacher, self.limit, self.max_tokens = teacher, limit, max_tokens
        self._priors: dict[tuple[tuple[int, ...], tuple[str, ...]], Tensor] = {}

    def fits(self, chat: Sequence[Message]) -> bool:
        return len(chat_ids(self.teacher.tokenizer, chat)) <= self.limit

    def write(self, chat: Sequence[Message]) -> Said:
        """Greedy words with the mean probability of their tokens; what was cut off ends with its last sentence."""
        prompt = Question(chat_ids(self.teacher.tokenizer, chat))
        (ids,) = self.teacher.write([prompt], self.max_tokens)
        (lesson,) = self.teacher.score([prompt], [ids], [True])
        text = self.teacher.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if ids[-1] != self.teacher.tokenizer.eos_token_id:
            text = whole_sentences(text)
        return Said(text, float(lesson.gold_log_probs.exp().mean()))

    def choose(self, chat: Sequence[Message], options: Sequence[str], blank: Sequence[Message]) -> Said:
        """The option that the chat makes most probable against ``blank``, and its share among the options.

        An option's log-probability is the mean over its tokens, less that of the same option after ``blank``: small
        models prefer words for their own sake, and words of many tokens (calibration: Zhao et al. 2021,
        arXiv 2102.09690; pointwise mutual information: Holtzman et al. 2021, arXiv 2104.08315).
        """
        prior = tuple(chat_ids(self.teacher.tokenizer, blank))
        if (prior, tuple(options)) not in self._priors:
            self._priors[prior, tuple(options)] = self._means(prior, options)
        means = self._means(chat_ids(self.teacher.tokenizer, chat), options) - self._priors[prior, tuple(options)]
        shares = means.softmax(0)
        best = int(shares.argmax())
        return Said(options[best], float(shares[best]))

    @torch.inference_mode()
    def _means(self, prompt_ids: Sequence[int], options: Sequence[str]) -> Tensor:
        """The mean log-probability of each option's tokens after the prompt; shape ``(O,)``.

        The prompt is read once, and all options go on from its keys and values.
        """
        tokenizer, model = self.teacher.tokenizer, self.teacher.model
        space = "" if tokenizer.chat_template else " "
        rows = [tokenizer(space + option, add_special_tokens=False)["input_ids"] for option in options]
        read = model(input_ids=torch.tensor([prompt_ids], device=model.device), use_cache=True)
        logits = read.logits[:, -1:, : self.teacher.vocabulary].expand(len(rows), -1, -1)  # (O, 1, V)
        longest = max(len(row) for row in rows)
        if longest > 1:  # padded on the right: causal attention never sees the padding
            ids = torch.full((len(rows), longest - 1), tokenizer.eos_token_id, device=model.device)
            for number, row in enumerate(rows):
                ids[number, : len(row) - 1] = torch.tensor(row[:-1])
            cache: Any = read.past_key_values
            cache.batch_repeat_interleave(len(rows))
            rest = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[..., : self.teacher.vocabulary]
            logits = torch.cat([logits, rest], dim=1)  # (O, L, V)
        log_probs = logits.float().log_softmax(-1)
        return torch.stack([log_probs[number, range(len(row)), row].mean() for number, row in enumerate(rows)])
