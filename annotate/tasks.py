"""Tasks as Label Studio takes them, built from items and annotations, and as it lists them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.clips import Clips, frames_a_second
from annotate.label_config import Page, task_data
from annotate.people import Person
from annotate.provenance import annotation_results
from annotate.results import Context, is_unicode
from annotate.studio import Studio
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import Annotation, Item
from pride_mm.schema import Kind, Media

Loads = Mapping[str, list[Annotation]]
"""Annotations by the id of their item."""
Users = Mapping[Person, tuple[int, str]]
"""The number and address of each annotator's user."""


@dataclass(frozen=True)
class Listed:
    """A task as the server lists it: annotations and predictions as they are there. ``project`` is a number too."""

    item: str
    number: int
    project: int
    context: Context
    annotations: list[dict[str, Any]]
    predictions: list[dict[str, Any]]

    @property
    def users(self) -> set[int]:
        return {given["completed_by"] for given in self.annotations if given.get("completed_by")}


def person_in(annotation: Annotation) -> Person:
    """Who made an annotation."""
    return Person(annotation.annotator, annotation.origin)


def place_of(annotation: Annotation) -> str:
    """Where a person finds an annotation."""
    return f"item {annotation.item}, annotator {annotation.annotator}"


def by_item(annotations: Iterable[Annotation], bad: BadSamples) -> dict[str, list[Annotation]]:
    """Annotations by item; a second one by the same annotator is counted in ``bad``."""
    loads: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        if not is_unicode(annotation.annotator):
            bad.add(SampleError(f"item {annotation.item}", None, "the annotator's name is not Unicode text"))
            continue
        given = loads.setdefault(annotation.item, [])
        if any(person_in(annotation) == person_in(other) for other in given):
            bad.add(
                SampleError(place_of(annotation), None, "a second annotation of the same item by the same annotator")
            )
        else:
            given.append(annotation)
    return loads


def shared_clips(page: Page, media_root: Path | None, number: int, studio: Studio) -> Clips | None:
    """The media folder of a project, known to the server; None where the page has no media."""
    if not page.media:
        return None
    if media_root is None:
        raise UserError("These items have media: say with --media-root which folder the server serves.")
    clips = Clips(media_root, number)
    storages = studio.call("listing media folders", studio.client.import_storage.local.list, project=number)
    if str(clips.folder) not in {storage.path for storage in storages}:
        studio.call(
            f"sharing {clips.folder} (is it inside the folder that the server serves?)",
            studio.client.import_storage.local.create,
            project=number, title="media", path=str(clips.folder), use_blob_urls=True,
        )  # fmt: skip
    return clips


def bulk_of(
    items: Iterable[Item], page: Page, clips: Clips | None, loads: Loads, users: Users, bad: BadSamples
) -> list[dict[str, Any]]:
    """The tasks of some items; one whose media or text is bad is counted and left out."""
    tasks = []
    for item in items:
        with bad.counting():
            urls, fps = {}, 0.0
            for media_field in page.shown:
                value = item.inputs.get(media_field.name)
                if isinstance(value, Media) and clips is not None:
                    rate = frames_a_second(item.id, media_field, value)
                    fps = rate if media_field.kind is Kind.VIDEO and not fps else fps
                    urls[media_field.name] = clips.place(item.id, media_field, value)
            turns = item.inputs[page.schema.dialogue.name]
            data = task_data(page, item.id, item.inputs, urls, fps)
            if not is_unicode(json.dumps(data, ensure_ascii=False)):
                raise SampleError(item.id, None, "not Unicode text (half of a surrogate pair)")
            context = Context(page, len(turns) if isinstance(turns, tuple) else 0, fps)
            tasks.append(
                {
                    "data": data,
                    "annotations": list(_annotations(loads.get(item.id, []), context, users, bad)),
                }
            )
    return tasks


def _annotations(given: Iterable[Annotation], context: Context, users: Users, bad: BadSamples) -> Iterator[Any]:
    for annotation in given:
        with bad.counting():
            result = annotation_results(annotation, context, place_of(annotation))
            email = users[person_in(annotation)][1]
            yield {"result": result, "completed_by": {"email": email}, "ground_truth": False}
