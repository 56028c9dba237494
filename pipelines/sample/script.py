"""The script of the embedded sample: speakers, moods, dialogues and what two experts note on them.

It is data (the TOML files in ``script``). Targets and notes are keyed by the schema's
fields and checked against it like any corpus; moods are the script's own words for how a turn is played.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field as Setting
from pydantic import ValidationError, model_validator

from pipelines.sample.face import Expression, Look
from pipelines.sample.voice import Prosody
from pride_mm.config import mistakes
from pride_mm.errors import UserError
from pride_mm.records import Key, Origin, Split
from pride_mm.schema import Frozen

SCRIPT = Path(__file__).parent / "script"


class Mood(Frozen):
    """How a mood sounds and looks."""

    voice: Prosody
    face: Expression


class Speaker(Frozen):
    """Who seeks support: a voice, a look, and the split that holds all of their dialogues."""

    voice: str
    pitch: Annotated[int, Setting(ge=0, le=99)]
    split: Split
    look: Look


class Mark(Frozen):
    """A part of the clip by its turns: a part of turn ``turn`` (shares of its length), or the pause ``after`` one."""

    label: str
    turn: int | None = None
    after: int | None = None
    part: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _one_place(self) -> "Mark":
        if (self.turn is None) == (self.after is None):
            raise ValueError("give either 'turn' or 'after'")
        return self


class Dialogue(Frozen):
    """One dialogue: ``say`` alternates between the speaker and the listener and ends with the speaker.

    ``moods`` gives one mood a turn of the speaker, or one for all. ``notes`` holds what each expert noted.
    """

    id: Key
    speaker: str
    moods: Annotated[tuple[str, ...], Setting(min_length=1)]
    say: Annotated[tuple[str, ...], Setting(min_length=1)]
    targets: dict[str, Any]
    notes: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _played(self) -> "Dialogue":
        if len(self.say) % 2 == 0:
            raise ValueError("'say' has to end with the speaker: an odd number of turns")
        if len(self.moods) not in (1, (len(self.say) + 1) // 2):
            raise ValueError("'moods' needs one mood, or one for each turn of the speaker")
        return self

    def mood(self, turn: int) -> str:
        """The mood of one of the speaker's turns."""
        return self.moods[0] if len(self.moods) == 1 else self.moods[turn // 2]


class Script(Frozen):
    """The whole sample.

    ``listener`` is the name of who answers, ``rest`` the mood of a face at rest, ``origin`` who the notes come from.
    """

    listener: str = "Listener"
    rest: str
    origin: Origin = "expert"
    speaker: dict[str, Speaker]
    mood: dict[str, Mood]
    dialogue: Annotated[tuple[Dialogue, ...], Setting(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> "Script":
        if self.rest not in self.mood:
            raise ValueError(f"rest: no mood '{self.rest}'")
        for dialogue in self.dialogue:
            if dialogue.speaker not in self.speaker:
                raise ValueError(f"{dialogue.id}: no speaker '{dialogue.speaker}'")
            strange = sorted(set(dialogue.moods) - self.mood.keys())
            if strange:
                raise ValueError(f"{dialogue.id}: no mood '{strange[0]}' (there are: {', '.join(self.mood)})")
        return self


def load_script(folder: Path = SCRIPT) -> Script:
    """Read the script's TOML files in the order of their names; raises UserError with every mistake."""
    raw: dict[str, Any] = {"dialogue": []}
    for path in sorted(folder.glob("*.toml")):
        try:
            read = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{path} is not TOML: {error}") from None
        raw["dialogue"] += read.pop("dialogue", [])
        raw.update(read)
    try:
        return Script.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in mistakes(error))
        raise UserError(f"The script in {folder} has mistakes:\n{lines}") from None
