"""A model behind an OpenAI-compatible server as the judge of pairs of answers, each asked about in both orders.

What leaves the process is dialogues and answers, never a note: a pair has none. Every answer is kept as it comes, so
that a run that was cut off asks only what is left. Questions go one after the other.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from pride_mm.config import find_config, read_config
from pride_mm.data.conversation import Message
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS
from pride_mm.evaluation.verdicts import Judged, Said, read_verdict
from pride_mm.progress import Progress, silent
from pride_mm.teacher.cache import open_cache
from pride_mm.teacher.remote_writer import RemoteWriter


class Judge:
    """Asks, and keeps what was answered.

    Args:
        writer: the server's model, and how long a question may be.
        kept: a file of JSON lines, one an answer; what is in it already is not asked again.
        prompt: the template, a name in ``configs/prompt`` or a path; sees ``turns``, ``a``, ``b`` and ``aspects``.

    ``shortened`` counts pairs whose dialogue lost old turns to fit; ``asked`` counts questions that were sent.
    """

    def __init__(self, writer: RemoteWriter, kept: Path, prompt: str | Path = "judge") -> None:
        self.template = read_config(find_config("prompt", prompt, ".j2"))
        self._compiled = Environment(undefined=StrictUndefined).from_string(self.template)
        self._writer, self._path = writer, kept
        self._answers = read_answers(kept)
        self.shortened = self.asked = 0

    @property
    def prompt_sha256(self) -> str:
        return hashlib.sha256(self.template.encode()).hexdigest()

    def judge(self, pairs: Sequence[Pair], bad: BadSamples, progress: Progress = silent) -> list[Judged]:
        """What the judge says of each pair; one that is too long even with its last turn alone is counted in ``bad``.

        Raises:
            UserError: the server fails; what it has answered stays.
        """
        judged = []
        for done, pair in enumerate(pairs):
            progress(done, len(pairs), "pairs")
            with bad.counting():
                said = None if pair.same else (self._ask(pair, False), self._ask(pair, True))
                judged.append(Judged(pair, said))
        progress(len(pairs), len(pairs), "pairs")
        return judged

    def chat(self, pair: Pair, swapped: bool) -> list[Message]:
        """The question: the first answer is A, or B where they are ``swapped``; the oldest turns go until it fits."""
        a, b = reversed(pair.answers) if swapped else pair.answers
        for start in range(len(pair.turns)):
            turns = pair.turns[start:]
            asked = self._compiled.render(turns=turns, a=a, b=b, aspects=ASPECTS).strip()
            chat: list[Message] = [{"role": "user", "content": asked}]
            if self._writer.fits(chat):
                self.shortened += start > 0 and not swapped
                return chat
        raise SampleError(pair.key, None, "the last turn and the answers are too long to ask about (--max-prompt)")

    def _ask(self, pair: Pair, swapped: bool) -> Said:
        chat = self.chat(pair, swapped)
        question = hashlib.sha256(json.dumps([self._writer.client.model, chat]).encode()).hexdigest()
        if question not in self._answers:
            text = self._answers[question] = self._writer.write(chat).text
            self.asked += 1
            self._keep({"question": question, "key": pair.key, "swapped": swapped, "answer": text})
        return read_verdict(self._answers[question])

    def _keep(self, line: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill cut the last line
                    file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")


def read_answers(path: Path) -> dict[str, str]:
    """What was answered before, by question; a line that a kill cut is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            one = json.loads(line)
            found[str(one["question"])] = str(one["answer"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def is_teacher(model: str, shards: ShardSet) -> bool:
    """Whether a model has the name of the teacher of these shards, of whose students it would be no fair judge."""
    try:
        record = open_cache(shards)
    except UserError:
        return False  # there is no teacher
    names = {record.teacher} | ({record.server.model} if record.server else set())
    return Path(model).name.casefold() in {Path(name).name.casefold() for name in names}
