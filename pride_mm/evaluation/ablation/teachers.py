"""A teacher's cache for each kind of teacher that an ablation has: views of one set of shards, each taught by itself.

A view is a folder of links to the same tars, so media and notes lie on the disk once; what a teacher says lies in the
view alone.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from pride_mm.data.manifest import MANIFEST, tar_name
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.ablation.arms import TeacherChoice
from pride_mm.files import write_bytes
from pride_mm.progress import Progress, silent
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.adapting import adapt, refuse_senses
from pride_mm.teacher.cache import CacheRecord, open_cache, teach
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import load_seeing


@dataclass(frozen=True)
class Lecture:
    """One teacher's reading of one view; done by whoever is handed it.

    Attributes:
        view: the folder.
        model: one of the choice's.
        max_response: as the students' runs have it.
        threads: that it may take.
    """

    view: Path
    model: str
    choice: TeacherChoice
    max_response: int
    max_bad: int
    threads: int

    @property
    def name(self) -> str:
        """What is told of it while it goes on."""
        return f"teacher {self.view.name}"


def view_name(choice: TeacherChoice, model: str) -> str:
    """A folder's name for one teacher; equal for equal teachers alone."""
    about = choice.model_dump(exclude={"models"}) | {"model": str(model)}
    tail = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    return f"{Path(model).name}-{choice.notes}-{choice.prompt.rpartition('/')[2]}-{tail}"


def link_view(shards: ShardSet, view: Path) -> None:
    """Lay links to the tars of a set into a folder; one that is of another set is laid anew.

    Raises:
        UserError: the shards are not on this machine.
    """
    folder, manifest = shards.folder, (shards.folder / MANIFEST).read_bytes()
    kept = view / MANIFEST
    if kept.is_file() and kept.read_bytes() == manifest:
        return
    if view.is_dir():
        shutil.rmtree(view)
    view.mkdir(parents=True)
    for shard in shards.shards():
        for added in shard.tars:
            name = tar_name(shard.name, added)
            if (folder / name).is_file():  # a site that must not hold notes isn't given them
                _link(folder / name, view / name)
    write_bytes(kept, manifest)


def _link(there: Path, here: Path) -> None:
    try:
        os.link(there, here)
    except OSError:  # another disk, or one that knows no such links
        here.symlink_to(there.resolve())


def give_lecture(lecture: Lecture, progress: Progress = silent) -> CacheRecord:
    """Teach a view, unless that was done; what was asked before isn't asked again.

    Raises:
        UserError: as ``pride teach``.
    """
    torch.set_num_threads(lecture.threads)
    shards, choice = ShardSet.open(lecture.view), lecture.choice
    with suppress(UserError):  # whatever is wrong with what is there, teaching makes it right
        return open_cache(shards, max_response=lecture.max_response)
    prompt = Prompt.load(shards.schema, choice.prompt, choice.max_prompt)
    weights = (getattr(torch, choice.dtype), None)
    model, words, senses = load_seeing(lecture.model, shards.schema, *weights) or (
        *load_backbone(lecture.model, *weights),
        None,
    )
    if choice.adapt:
        refuse_senses(lecture.model, senses)
        # what is refused is refused again, and counted, when it is taught
        refused = BadSamples(sum(shards.splits.values()))
        lesson = (choice.adapt, lecture.max_response)
        model, _ = adapt(model, words, prompt, shards, refused, *lesson, notes=choice.notes, progress=progress)
    teacher = Teacher(model, words, top_k=choice.top_k, fp8=False, senses=senses)
    bad = BadSamples(lecture.max_bad)
    return teach(
        shards, teacher, prompt, bad, str(lecture.model), lecture.max_response, notes=choice.notes, progress=progress
    )
