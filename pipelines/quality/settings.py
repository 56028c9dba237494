"""How items are judged: read from ``configs/quality/*.toml``, ``--set key=value`` on top."""

from typing import Annotated

from pydantic import Field as Setting

from pipelines.quality.alike import Copies, Shared
from pipelines.quality.black import Black
from pipelines.quality.clipping import Clipping
from pipelines.quality.face import Face
from pipelines.quality.frozen import Frozen
from pipelines.quality.language import Language
from pipelines.quality.overlap import Overlap
from pipelines.quality.rule import Rule
from pipelines.quality.silence import Silence
from pipelines.quality.unreadable import Unreadable
from pride_mm.media.settings import MediaLimits
from pride_mm.schema import Frozen as Settings


class QualitySettings(Settings):
    """One way to judge.

    Attributes:
        frames: how many frames of a clip are looked at, evenly spaced.
        limits: what is refused before it is decoded.
        seconds: what takes longer to look at is unreadable.
        unreadable, black, ...: one rule a measure.
    """

    description: str = ""
    frames: Annotated[int, Setting(ge=4, le=64)] = 8
    limits: MediaLimits = MediaLimits()
    seconds: Annotated[float, Setting(gt=0)] = 120.0
    unreadable: Unreadable = Unreadable()
    black: Black = Black()
    frozen: Frozen = Frozen()
    face: Face = Face()
    silence: Silence = Silence()
    clipping: Clipping = Clipping()
    language: Language = Language()
    overlap: Overlap = Overlap()
    copies: Copies = Copies()
    shared: Shared = Shared()

    def rules(self) -> dict[str, Rule]:
        """The rules by name, in the order in which they are judged."""
        return {name: rule for name in type(self).model_fields if isinstance(rule := getattr(self, name), Rule)}

    def on(self, *names: str) -> bool:
        """Whether any of these measures is looked at."""
        rules = self.rules()
        return any(rules[name].action != "off" for name in names)
