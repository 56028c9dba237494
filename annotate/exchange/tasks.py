"""Tasks as Label Studio takes them, built from items and annotations."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from annotate.exchange.listing import Listed as Listed
from annotate.exchange.listing import context_of
from annotate.exchange.loads import KEPT, Load, Loads
from annotate.exchange.loads import person_in as person_in
from annotate.exchange.loads import place_of as place_of
from annotate.page.clips import Clips, frames_a_second
from annotate.page.label_config import Page, task_data
from annotate.page.provenance import annotation_results
from annotate.page.results import Context, is_unicode
from annotate.people import Person
from annotate.studio import Studio
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import Item
from pride_mm.schema import Kind, Media, jsonable

Users = Mapping[Person, tuple[int, str]]
"""The number and address of each annotator's user."""
MARK = "Fingerprint"


def fingerprint(item: Item) -> str:
    """Changes when what an item's task shows does; of a media file its name, size and time of change count."""
    shown = {name: _file(v) if isinstance(v, Media) else jsonable(v) for name, v in sorted(item.inputs.items())}
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:32]


def _file(media: Media) -> list[Any]:
    path = Path(media.path)
    try:
        found = path.stat()
    except OSError:
        return [path.name, media.start, media.end]
    return [path.name, media.start, media.end, found.st_size, found.st_mtime_ns]


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


def task_of(item: Item, page: Page, clips: Clips | None) -> dict[str, Any]:
    """The task of an item, without annotations; raises SampleError where its media or text is bad."""
    urls, fps = {}, 0.0
    for media_field in page.shown:
        value = item.inputs.get(media_field.name)
        if isinstance(value, Media) and clips is not None:
            rate = frames_a_second(item.id, media_field, value)
            fps = rate if media_field.kind is Kind.VIDEO and not fps else fps
            urls[media_field.name] = clips.place(item.id, media_field, value)
    data = task_data(page, item.id, item.inputs, urls, fps)
    if not is_unicode(json.dumps(data, ensure_ascii=False)):
        raise SampleError(item.id, None, "not Unicode text (half of a surrogate pair)")
    return {"data": data, "meta": {MARK: fingerprint(item)}}


def bulk_of(
    items: Iterable[Item], page: Page, clips: Clips | None, loads: Loads, users: Users, bad: BadSamples,
    refused: BadSamples,
) -> list[dict[str, Any]]:  # fmt: skip
    """The tasks of some items with their annotations.

    An item whose media or text is bad is counted in ``bad``, an annotation without a control in ``refused``.
    """
    tasks = []
    for item in items:
        with bad.counting():
            task = task_of(item, page, clips)
            given = list(_annotations(loads.take(item.id), context_of(task, page), users, refused))
            tasks.append({**task, "annotations": given})
    return tasks


def results_of(load: Load, context: Context) -> list[dict[str, Any]]:
    """An annotation as Label Studio's result, empty for a skipped one; raises SampleError."""
    return [] if load.skipped else annotation_results(load.annotation, context, load.place)


def _annotations(given: Iterable[Load], context: Context, users: Users, bad: BadSamples) -> Iterator[Any]:
    for load in given:
        with bad.counting():
            extra = {name: load.extra[name] for name in KEPT if load.extra.get(name) is not None}
            who = {"email": users[load.person][1]}
            yield {"result": results_of(load, context), "completed_by": who, "ground_truth": False, **extra}
