"""A synthesised voice whose prosody follows the mood: eSpeak NG, driven through ctypes.

The library and its voices come with the package ``espeakng-loader`` (GPL-3, hence an extra). It has
one state for the whole process, so only one ``Voice`` may speak at a time.
"""

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pride_mm.errors import UserError
from pride_mm.schema import Frozen

Wave = NDArray[np.float32]

_RETRIEVAL, _UTF8 = 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_PLAIN_RATE = 165  # words a minute of a neutral voice


class Prosody(Frozen):
    """How a mood sounds.

    ``rate`` is a factor; ``pitch`` and ``range`` are steps of eSpeak's scale from 0 to 100, added to the
    speaker's own; ``level`` is the loudness in dB below full scale; ``tremor``, ``harsh`` and ``soft`` go from 0 to 1.
    """

    rate: float = 1.0
    pitch: int = 0
    range: int = 0
    level: float = -23.0
    tremor: float = 0.0
    harsh: float = 0.0
    soft: float = 0.0


class Voice:
    """eSpeak NG's English voices. ``rate`` is the samples a second of what ``say`` returns."""

    def __init__(self) -> None:
        with _espeak() as (_, rate):
            self.rate = rate

    def say(self, text: str, variant: str, pitch: int, prosody: Prosody) -> Wave:
        """Speak ``text``: mono samples (N,) in [-1, 1], without the silence around them.

        Args:
            text: the words.
            variant: one of eSpeak's voice variants, such as ``f2``.
            pitch: the speaker's own pitch, 0 to 100.
            prosody: how the mood sounds.
        """
        wave = _trim(self._speak(text, variant, pitch, prosody))
        return _colour(wave, self.rate, prosody)

    def _speak(self, text: str, variant: str, pitch: int, prosody: Prosody) -> Wave:
        parts: list[NDArray[np.int16]] = []

        def collect(samples: Any, count: int, _events: Any) -> int:
            if samples and count > 0:
                parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        heard = _CALLBACK(collect)  # kept in a name: eSpeak holds no reference to it
        with _espeak() as (library, _):
            library.espeak_SetSynthCallback(heard)
            if library.espeak_SetVoiceByName(f"en-us+{variant}".encode()) != 0:
                raise UserError(f"eSpeak NG has no voice variant '{variant}'; they are named in its folder voices/!v.")
            words = text.encode() + b"\0"
            library.espeak_SetParameter(_RATE, round(_PLAIN_RATE * prosody.rate), 0)
            library.espeak_SetParameter(_PITCH, min(99, max(0, pitch + prosody.pitch)), 0)
            library.espeak_SetParameter(_RANGE, min(99, max(0, 50 + prosody.range)), 0)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath is noise; the same noise every time
            library.espeak_Synth(words, ctypes.c_size_t(len(words)), 0, 1, 0, _UTF8, None, None)
            library.espeak_Synchronize()
        if not parts:
            raise UserError(f"eSpeak NG said nothing for {text!r}.")
        return np.concatenate(parts).astype(np.float32) / 32768.0


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@contextmanager
def _espeak() -> Iterator[tuple[Any, int]]:
    """The library and its sample rate, loaded anew: what it has said would else colour what it says next."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "The embedded sample needs a voice: install it with  pip install 'pride-mm[voice]'  "
            "(espeakng-loader, GPL-3), or ingest a corpus of your own."
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise UserError("eSpeak NG does not start; reinstall it with  pip install --force-reinstall espeakng-loader.")
    try:
        yield library, int(rate)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _trim(wave: Wave, floor: float = 0.003) -> Wave:
    loud = np.flatnonzero(np.abs(wave) > floor)
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave


def _colour(spoken: Wave, rate: int, prosody: Prosody) -> Wave:
    """What eSpeak cannot do: a voice that trembles, rasps or is veiled, and how loud it is."""
    wave: NDArray[np.float64] = spoken.astype(np.float64)
    seconds = np.arange(len(wave)) / rate
    if prosody.tremor:
        shake = np.sin(2 * np.pi * 6.3 * seconds)
        wave = np.interp(seconds + 0.0011 * prosody.tremor * shake, seconds, wave)
        wave = wave * (1 - 0.35 * prosody.tremor * (0.5 + 0.5 * np.sin(2 * np.pi * 5.1 * seconds)))
    if prosody.soft:
        window = np.hanning(9)
        wave = (1 - prosody.soft) * wave + prosody.soft * np.convolve(wave, window / window.sum(), mode="same")
    peak = float(np.abs(wave).max()) or 1.0
    if prosody.harsh:
        wave = np.tanh(wave / peak * (1 + 4 * prosody.harsh))
    loudness = float(np.sqrt(np.mean(np.square(wave)))) or 1.0
    wave = wave / loudness * 10 ** (prosody.level / 20)
    return np.clip(wave, -0.98, 0.98).astype(np.float32)
