"""A teacher that is asked while the student trains: of the experts' words, and of the student's own.

What a student says it is taught on is on-policy distillation (GKD, arXiv 2306.13649): it meets its own mistakes in
training, and not first when it is served. The teacher has read the notes; the student that speaks has not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.profiler import record_function

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.collate import Collator, pad_ids
from pride_mm.data.conversation import tokenizer_sha256
from pride_mm.data.shards import Sample
from pride_mm.data.teaching import Lesson, stack
from pride_mm.errors import UserError
from pride_mm.schema import Schema
from pride_mm.student import Student
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher, until_end
from pride_mm.teacher.senses import Question
from pride_mm.training.chances import Chances
from pride_mm.training.settings import TeacherSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class LiveTeacher:
    """A teacher in this process, and how it is asked.

    Args:
        teacher: gives its last hidden states, of which its head makes exact logits.
        prompt: what it is told of a sample.
        settings: how often it is asked of the student's own words.
        collator: how long a response is, and how it is padded.
        seed: of the choice of steps.
    """

    teacher: Teacher
    prompt: Prompt
    settings: TeacherSettings
    collator: Collator
    seed: int

    @classmethod
    def load(
        cls, settings: TeacherSettings, schema: Schema, collator: Collator, seed: int, device: torch.device
    ) -> "LiveTeacher":
        """Raises UserError where there is no such model, or it reads other tokens than the student."""
        model, tokenizer = load_backbone(settings.model, _DTYPES[settings.dtype], str(device))
        if tokenizer_sha256(tokenizer) != tokenizer_sha256(collator.inputs.tokenizer):
            raise UserError(
                f"Teacher '{settings.model}' and the student have other vocabularies, and a teacher that is asked in "
                "training scores the student's tokens: choose one of the backbone's family, or run 'pride teach', "
                "whose top-k any student can learn from, and leave the setting teacher out."
            )
        prompt = Prompt.load(schema, settings.prompt, settings.max_prompt)
        return cls(Teacher(model, tokenizer, top_k=0), prompt, settings, collator, seed)

    @property
    def asking(self) -> Callable[[Sample], list[int]]:
        """What makes the teacher's prompt of a sample, for the processes that read."""
        return partial(_ask, self.prompt, self.teacher.tokenizer, self.settings.notes)

    def is_on_policy(self, step: int) -> bool:
        """Whether the student speaks in this step; on all ranks alike."""
        return float(Chances(self.seed, step, ("",)).of("on policy")) < self.settings.on_policy

    @record_function("pride.teach")
    def teach(self, batch: Batch, step: int, student: Student) -> Batch:
        """The batch with what the teacher says of its responses, which in some steps are the student's own."""
        prompts, name, own = batch.asked, self.prompt.schema.response.name, self.is_on_policy(step)
        assert prompts is not None, "the collator that made this batch asks for no prompts"
        if own:
            said = pad_ids(self._say(batch, student), self.collator.inputs.pad)
            batch = replace(batch, targets={**batch.targets, name: said}).to(student.device)
        response = batch.targets[name]
        rows: list[int] = response.present.nonzero().flatten().tolist()
        lessons: dict[int, Lesson] = {}
        if rows:
            questions = [Question(_ids(prompts, row)) for row in rows]
            scored = self.teacher.score(questions, [_ids(response, row) for row in rows], [own] * len(rows))
            lessons = dict(zip(rows, scored, strict=True))
        teaching = stack([lessons.get(row) for row in range(len(batch))], response.values.shape[1])
        return replace(batch, teaching=teaching).to(student.device)

    def _say(self, batch: Batch, student: Student) -> list[list[int]]:
        """What the student answers, drawn from all that it might; it learns nothing by that."""
        was = student.training
        student.eval()
        with torch.compiler.set_stance("force_eager"):  # token after token has shapes that no step has
            ids = student.answer(
                batch.inputs,
                max_new_tokens=self.collator.max_response,
                do_sample=True,
                temperature=self.settings.temperature,
                top_k=0,
            )
        student.train(was)
        return [until_end(row.tolist(), self.teacher.tokenizer.eos_token_id) for row in ids.cpu()]


def _ask(prompt: Prompt, tokenizer: object, notes: str, sample: Sample) -> list[int]:
    return prompt.ids(tokenizer, sample if notes == "given" else replace(sample, privileged={}))


def _ids(texts: Padded, row: int) -> list[int]:
    ids: list[int] = texts.values[row][texts.mask[row]].tolist()
    return ids
