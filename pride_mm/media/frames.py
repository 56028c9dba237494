"""Frames of a clip, evenly spaced, as the student's encoders take them.

Letters: ``F`` frames, ``H`` height, ``W`` width.

decord decodes where it is right: mp4 and Matroska without hidden frames. It gives the frames of an
edit list and of a transport stream wrongly, doesn't know AV1, and leaks on files that it cannot
open: those are decoded by PyAV, which probes every source first.
"""

import io
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pride_mm.media.container import MediaError, Source, VideoInfo, opened, probe_pictures, video_stream

_DECORD_CONTAINERS = ("mp4", "matroska")


def read_frames(source: Source, count: int, size: int) -> UInt8[Tensor, "F 3 H W"]:
    """Read ``count`` frames, evenly spaced over the clip; a frame is repeated where the clip is shorter.

    Args:
        source: a clip as bytes or as a path.
        count: how many frames, F.
        size: H and W in pixels; the short side is resized to it, the long side cropped to its centre.

    Raises:
        MediaError: there are no pictures, or they don't decode.
    """
    from torchvision.transforms.v2.functional import center_crop, resize

    container, video = probe_pictures(source)
    pictures = _decode(source, container, video, spaced(video.frames, count))
    cropped: Tensor = center_crop(resize(pictures, [size], antialias=True), [size])
    return cropped


def spaced(frames: int, count: int) -> list[int]:
    """The middle frame of each of ``count`` equal parts of a clip of ``frames`` frames."""
    return [int((part + 0.5) * frames / count) for part in range(count)]


def _decode(source: Source, container: str, video: VideoInfo, indices: list[int]) -> UInt8[Tensor, "F 3 h w"]:
    if suits_decord(container, video):
        try:
            return decode_with_decord(source, indices)
        except Exception:  # noqa: BLE001 - decord throws RuntimeError, DECORDError, IndexError; PyAV then decides
            pass
    return decode_with_pyav(source, indices)


def suits_decord(container: str, video: VideoInfo) -> bool:
    """Whether decord gives the same frames as a player."""
    whole = video.hidden == 0 and video.stored in (0, video.frames)
    return container in _DECORD_CONTAINERS and video.codec == "h264" and whole


def decode_with_decord(source: Source, indices: list[int]) -> UInt8[Tensor, "F 3 h w"]:
    """The frames at ``indices``, full size; decord applies a rotation by itself."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    file = str(source) if isinstance(source, Path) else io.BytesIO(source)
    reader = decord.VideoReader(file, ctx=decord.cpu(0), num_threads=1)
    return torch.from_numpy(reader.get_batch(indices).asnumpy()).permute(0, 3, 1, 2).contiguous()


def decode_with_pyav(source: Source, indices: list[int]) -> UInt8[Tensor, "F 3 h w"]:
    """The frames at ``indices``, full size, turned as the container says; decodes from the start."""
    wanted, last = set(indices), max(indices)
    found: dict[int, Tensor] = {}
    with opened(source) as container:
        for index, frame in enumerate(container.decode(video_stream(container))):
            if index in wanted:
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                found[index] = torch.rot90(picture, round(frame.rotation / 90) % 4, dims=(1, 2)).contiguous()
            if index == last:
                break
    if len(found) < len(wanted):
        raise MediaError(f"is truncated or damaged: {len(found)} of {len(wanted)} wanted frames decode")
    return torch.stack([found[index] for index in indices])
