"""Marks by which copies of a text, of pictures or of sound know each other, also when they were cut or encoded anew.

Letters: ``F`` frames,
``H`` height, ``W`` width, ``N`` samples, ``P`` permutations.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.overlap import words

# Pictures: the lowest frequencies of a frame, each above or below their median.
PICTURES = 4
_DCT, _LOW = 32, 8
# Sound: in windows spread over the whole of it, whether a band grows against its neighbour from one to the next.
STEPS, BANDS = 42, 24
_WINDOW, _LOWEST, _HIGHEST = 0.37, 300.0, 3000.0
# Text: the smallest hashes of its runs of three words, 16 bits of each.
PERMUTATIONS = 128
_SHINGLE = 3
# bytes of a mark
TEXT_BYTES, PICTURE_BYTES, SOUND_BYTES = 2 * PERMUTATIONS, PICTURES * _LOW * _LOW // 8, STEPS * BANDS // 8


@dataclass(frozen=True)
class Mark:
    """Of one field: ``exact`` is equal where its value is; of ``near`` the difference says how unlike two are."""

    exact: bytes
    near: bytes


def text_mark(texts: tuple[str, ...]) -> Mark:
    """The MinHash (P,) of some texts: of two, the share of equal numbers is about that of the runs they share."""
    from datasketch import MinHash

    hashed = MinHash(num_perm=PERMUTATIONS, seed=1)
    said = [word for text in texts for word in [*words(text), "."]]
    shingles = {" ".join(said[place : place + _SHINGLE]) for place in range(max(1, len(said) - _SHINGLE + 1))}
    hashed.update_batch([shingle.encode() for shingle in sorted(shingles)])
    return Mark(_exact(" ".join(said).encode()), hashed.hashvalues.astype("<u2").tobytes())


def _exact(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:8]


def picture_mark(frames: NDArray[np.uint8]) -> Mark:
    """A perceptual hash of ``PICTURES`` evenly spaced frames out of grey ones (F, H, W): 8 bytes each."""
    import cv2

    chosen = np.linspace(0, len(frames) - 1, PICTURES).round().astype(int)
    hashes = []
    for frame in frames[chosen]:
        small = cv2.resize(frame, (_DCT, _DCT), interpolation=cv2.INTER_AREA)
        low = cv2.dct(small.astype(np.float32))[:_LOW, :_LOW].reshape(-1)
        hashes.append(np.packbits(low > np.median(low[1:])).tobytes())
    return Mark(_exact(frames.tobytes()), b"".join(hashes))


def sound_mark(sound: NDArray[np.float32], rate: int) -> Mark:
    """A fingerprint of sound (N,): one bit a band and step, ``STEPS * BANDS / 8`` bytes.

    After Haitsma and Kalker, «A highly robust audio fingerprinting system» (ISMIR 2002), but with its windows
    spread over the sound's length, so that every sound has a mark of the same size.
    """
    length = round(_WINDOW * rate)
    padded = np.pad(sound, (0, max(0, length - len(sound))))
    starts = np.linspace(0, len(padded) - length, STEPS + 1).astype(int)
    windows = np.stack([padded[start : start + length] for start in starts]) * np.hanning(length)
    power = np.abs(np.fft.rfft(windows)) ** 2
    edges = np.geomspace(_LOWEST, _HIGHEST, BANDS + 2) * length / rate
    energy = np.log(np.add.reduceat(power, edges.astype(int), axis=1)[:, :-1] + 1e-12)
    exact = _exact((sound * 32767).round().astype("<i2").tobytes())
    return Mark(exact, np.packbits(np.diff(np.diff(energy, axis=1), axis=0) > 0).tobytes())
