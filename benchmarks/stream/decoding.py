"""Streaming with 8 frames and sound decoded: beside a bare loop, proxies beside clips, memory, S3 beside a folder.

``python -m benchmarks.stream.decoding VERB PLACE ...`` prints JSON; one process, one core, one thread. What takes turns
in one process is measured in CPU seconds, which neighbours don't lengthen.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 32


class _Clips:
    """Samples as their frames and their sound, decoded as for training."""

    def __init__(self, schema: Any) -> None:
        from pride_mm.data.collate import InputCollator
        from pride_mm.schema import Kind, Role

        self.fields = schema.of(Role.INPUT, Kind.VIDEO, Kind.AUDIO)
        self.inputs = InputCollator(schema, None)

    def prepare(self, sample: Any) -> Any:
        frames = {name: about.get("frames") or None for name, about in sample.meta["media"].items()}
        return [self.inputs.read(f, sample.inputs.get(f.name), frames.get(f.name)) for f in self.fields]

    def join(self, prepared: Sequence[Any]) -> list[Any]:
        return list(prepared)


def _loader(place: Path | str, cache: Path | None = None) -> Any:
    from pride_mm.data.batches import Batches
    from pride_mm.data.corpora import Corpora
    from pride_mm.data.loader import Loader
    from pride_mm.data.mix import Mix
    from pride_mm.data.shards import ShardSet

    corpora = Corpora([(ShardSet.open(place, cache).samples("train"), 1.0)])
    return Loader(corpora, _Clips(corpora.schema), Batches(Mix(corpora.described, seed=0), BATCH))


def _bare(sample: Any, fields: Sequence[Any]) -> list[Any]:
    """The same decoder on the same bytes, and nothing around it."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    from pride_mm.media.frames import fit
    from pride_mm.media.track import spaced

    video, audio = fields
    clip, sound = (sample.inputs.get(field.name) for field in fields)
    made = []
    if clip is not None:
        decoder = VideoDecoder(clip, num_ffmpeg_threads=1, seek_mode="exact")
        made.append(fit(decoder.get_frames_at(spaced(len(decoder), video.frames)).data, video.size))
    if sound is not None:
        made.append(AudioDecoder(sound, sample_rate=audio.rate).get_samples_played_in_range(0.0, audio.seconds).data[0])
    return made


def _warm(place: Path | str) -> None:
    """Let everything be imported and the clips be in the page cache."""
    for _ in _loader(place):
        pass


def bare(place: str, rounds: int) -> dict[str, float]:
    """Samples a second, ours and bare, block by block in turn."""
    loader = _loader(place)
    _warm(place)
    fields = loader.collate.fields
    ours = theirs = 0.0
    seen = 0
    for _ in range(rounds):
        places = [list(batch) for batch in loader.batches]
        loader.batches.go(loader.batches.epoch, 0)
        batches = iter(loader)
        for block in places:
            known = [loader.corpora[place] for place in block]
            start = time.process_time()
            next(batches)
            middle = time.process_time()
            batch = [_bare(sample, fields) for sample in known]
            theirs += time.process_time() - middle
            ours += middle - start
            seen += len(batch)
        next(batches, None)  # ends the epoch
    return {"ours": seen / ours, "bare": seen / theirs}


def proxies(work: str, rounds: int) -> dict[str, float]:
    """Samples a second of proxies and of the same clips unproxied, block by block in turn."""
    spent = {"plain": 0.0, "proxy": 0.0}
    _warm(Path(work) / "proxy")
    seen = 0
    for _ in range(rounds):
        loaders = {name: iter(_loader(Path(work) / name)) for name in spent}
        while True:
            for name, batches in loaders.items():
                start = time.process_time()
                batch = next(batches, None)
                spent[name] += time.process_time() - start
            if batch is None:
                break
            seen += len(batch)
    return {name: seen / seconds for name, seconds in spent.items()}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(place: str, samples: int) -> dict[str, float]:
    """MiB by which the process is larger at its largest in the last tenth of the clips than in the second tenth."""
    loader, seen, peaks = _loader(place), 0, [0] * 10
    while seen < samples:
        for batch in loader:
            tenth = min(seen * 10 // samples, 9)
            peaks[tenth] = max(peaks[tenth], _resident())
            seen += len(batch)
            if seen >= samples:
                break
    return {"grown": (peaks[-1] - peaks[1]) / 2**20}


def remote(place: str, samples: int, cache: str = "") -> dict[str, float]:
    """Samples a second once the first batch has come: from there on, reading ahead is warm."""
    seen, start = 0, 0.0
    for batch in _loader(place if "://" in place else Path(place), Path(cache) if cache else None):
        start = start or time.perf_counter()
        seen += len(batch)
        if seen >= samples:
            break
    return {"rate": (seen - BATCH) / (time.perf_counter() - start)}


def main() -> None:
    import torch

    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    verb, place, number, *rest = sys.argv[1:]
    print(
        json.dumps(
            {"bare": bare, "proxies": proxies, "grown": grown, "remote": remote}[verb](place, int(number), *rest)
        )
    )


if __name__ == "__main__":
    main()
