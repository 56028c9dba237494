"""A drawn face that shows a mood: brows, eyes, mouth, colour and the way the head is held.

The face lives in its own coordinates: the origin between eyes and nose, one unit about half a head,
x to the right and y downwards. It is drawn three times too large and made smaller, which smooths it.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pride_mm.schema import Frozen

Points = NDArray[np.float64]
Colour = tuple[int, int, int]
_OVERSAMPLING = 3


class Expression(Frozen):
    """What a mood does to the face; 0 is at rest, 1 is full, unless said otherwise.

    ``slant`` lifts (positive) or lowers the inner ends of the brows; ``eyes`` is how far they are open (1 at
    rest); ``squint`` lifts the lower lids; ``wide`` is the mouth's width (1 at rest); ``tilt`` is in degrees;
    ``near`` above 0 leans forward, below back; ``shake`` trembles, ``sway`` moves slowly.
    """

    raise_brows: float = 0.0
    slant: float = 0.0
    uneven: float = 0.0
    eyes: float = 1.0
    squint: float = 0.0
    pupils: float = 1.0
    look_x: float = 0.0
    look_y: float = 0.0
    smile: float = 0.0
    part: float = 0.0
    wide: float = 1.0
    sneer: float = 0.0
    teeth: float = 0.0
    flush: float = 0.0
    pale: float = 0.0
    green: float = 0.0
    tears: float = 0.0
    tilt: float = 0.0
    drop: float = 0.0
    near: float = 0.0
    shake: float = 0.0
    sway: float = 0.3

    def mixed(self, other: "Expression", share: float) -> "Expression":
        """Between the two: ``share`` of the other."""
        names = type(self).model_fields
        return self.model_copy(update={n: (1 - share) * getattr(self, n) + share * getattr(other, n) for n in names})


class Look(Frozen):
    """What a speaker looks like; colours as ``#rrggbb``."""

    skin: str
    hair: str
    style: Literal["short", "long", "bun", "curly", "bald"] = "short"
    shirt: str = "#4a6d8c"
    wall: str = "#e4ded2"
    glasses: bool = False
    beard: bool = False


class Moment(Frozen):
    """One instant: seconds since the start, loudness of the voice from 0 to 1, and whether the eyes blink (1 shut)."""

    time: float
    loudness: float
    blink: float


def draw_face(look: Look, mood: Expression, moment: Moment, size: int) -> NDArray[np.uint8]:
    """Draw one frame: (size, size, 3), RGB."""
    from PIL import Image, ImageDraw

    large = size * _OVERSAMPLING
    image = Image.new("RGB", (large, large), _rgb(look.wall))
    _Portrait(ImageDraw.Draw(image), look, mood, moment, large).draw()
    return np.asarray(image.reduce(_OVERSAMPLING))


def _rgb(text: str) -> Colour:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    share = min(1.0, max(0.0, share))
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0) -> Points:
    angles = np.radians(np.linspace(start, end, 48))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


class _Portrait:
    """One frame in the making."""

    def __init__(self, pen: Any, look: Look, mood: Expression, moment: Moment, large: int) -> None:
        self.pen, self.look, self.mood, self.moment = pen, look, mood, moment
        self.unit = large / 2.75
        self.centre = np.array([large / 2, large * 0.47])
        skin = _mix(_rgb(look.skin), (214, 74, 58), 0.32 * mood.flush)
        skin = _mix(skin, (226, 230, 238), 0.38 * mood.pale)
        self.skin = _mix(skin, (142, 172, 92), 0.3 * mood.green)
        self.line = _mix(self.skin, (62, 30, 24), 0.72)
        self.hair = _rgb(look.hair)
        swing = 2 * np.pi * moment.time
        jitter = mood.shake * np.array([np.sin(swing * 5.3), np.sin(swing * 4.7 + 1)]) * 0.016
        sway = mood.sway * np.array([np.sin(swing * 0.45), 0.6 * np.sin(swing * 0.8 + 0.7)]) * 0.035
        nod = np.array([0.0, 0.03 * moment.loudness * (0.4 + mood.sway)])
        self.shift = jitter + sway + nod + np.array([0.0, 0.13 * mood.drop])
        self.zoom = 1.0 + 0.09 * mood.near
        self.angle = np.radians(mood.tilt + 2.0 * mood.sway * np.sin(swing * 0.38 + 0.4))

    def place(self, points: Points, head: bool = True) -> list[tuple[float, float]]:
        """Face coordinates to pixels; the head turns about the neck."""
        if head:
            pivot = np.array([0.0, 0.9])
            cos, sin = np.cos(self.angle), np.sin(self.angle)
            points = (points - pivot) @ np.array([[cos, sin], [-sin, cos]]) * self.zoom + pivot + self.shift
        return [tuple(point) for point in (points * self.unit + self.centre).tolist()]

    def fill(self, points: Points, colour: Colour, head: bool = True) -> None:
        self.pen.polygon(self.place(points, head), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float) -> None:
        placed, pixels = self.place(points), max(1, round(width * self.unit))
        self.pen.line(placed, fill=colour, width=pixels, joint="curve")
        for x, y in (placed[0], placed[-1]):
            self.pen.ellipse([x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2], fill=colour)

    def draw(self) -> None:
        self.hair_behind()
        self.body()
        self.head()
        for side in (-1, 1):
            self.eye(side)
        self.nose()
        if self.look.beard:
            self.fill(self.beard_shape(), _mix(self.hair, self.skin, 0.12))
        self.mouth()
        self.hair_in_front()
        for side in (-1, 1):  # over the hair, as cartoons do: they tell most
            self.brow(side)
        if self.look.glasses:
            self.glasses()

    def body(self) -> None:
        shirt = _rgb(self.look.shirt)
        self.fill(_ellipse(0, 1.72, 1.12, 0.72), shirt, head=False)
        self.fill(_ellipse(0, 1.08, 0.36, 0.16), _mix(shirt, (0, 0, 0), 0.2), head=False)
        neck = np.array([[-0.23, 0.5], [0.23, 0.5], [0.27, 1.1], [0.0, 1.18], [-0.27, 1.1]])
        self.fill(neck, _mix(self.skin, (70, 30, 20), 0.22), head=False)

    def hair_behind(self) -> None:
        if self.look.style == "long":
            self.fill(_ellipse(0, 0.1, 0.8, 0.98), self.hair)
            self.fill(np.array([[-0.8, 0.1], [0.8, 0.1], [0.78, 0.98], [-0.78, 0.98]]), self.hair)
        elif self.look.style == "curly":
            for angle in np.linspace(150, 390, 13):
                x, y = 0.62 * np.cos(np.radians(angle)), -0.22 + 0.66 * np.sin(np.radians(angle))
                self.fill(_ellipse(x, y, 0.24, 0.24), self.hair)
        elif self.look.style == "bun":
            self.fill(_ellipse(0, -0.95, 0.27, 0.24), self.hair)

    def head(self) -> None:
        for side in (-1, 1):
            self.fill(_ellipse(0.63 * side, 0.02, 0.12, 0.17), _mix(self.skin, (90, 40, 30), 0.12))
        outline = _ellipse(0, 0, 0.64, 0.84)
        below = np.clip(outline[:, 1] / 0.84, 0, 1)
        outline[:, 0] *= 1 - 0.2 * below**2
        outline[:, 1] += 0.05 * below * self.moment.loudness
        self.fill(outline, self.skin)
        glow = _mix(self.skin, (226, 84, 84), 0.2 + 0.35 * max(0.0, self.mood.smile) + 0.25 * self.mood.flush)
        if self.mood.smile > 0.2 or self.mood.flush > 0.3:
            for side in (-1, 1):
                self.fill(_ellipse(0.36 * side, 0.2, 0.13, 0.08), _mix(self.skin, glow, 0.6))

    def eye(self, side: int) -> None:
        mood, x, y = self.mood, 0.25 * side, -0.1
        open_ = max(0.0, mood.eyes * (1 - self.moment.blink))
        upper, lower = 0.105 * open_, 0.095 * min(open_, 1.3) * (1 - 0.75 * mood.squint)
        if upper < 0.02:
            arc = np.linspace(-1, 1, 16)
            shut = np.stack([x + 0.14 * arc, y + 0.02 + 0.03 * (1 - arc**2)], axis=1)
            self.stroke(shut, self.line, 0.03)
            return
        arc = np.linspace(-1, 1, 24)
        top = np.stack([x + 0.145 * arc, y - upper * (1 - arc**2)], axis=1)
        # worry lifts the inner corner of the lid, anger pulls it down
        top[:, 1] -= 0.035 * mood.slant * (-side * arc) * (1 - arc**2 * 0.5)
        bottom = np.stack([x + 0.145 * arc, y + lower * (1 - arc**2)], axis=1)
        shape = np.concatenate([top, bottom[::-1]])
        self.fill(shape, (250, 249, 246))
        self.iris(x, y, upper, lower)
        self.lid(top, bottom, upper, lower)
        self.stroke(top, self.line, 0.034)
        if mood.squint > 0.25:
            self.stroke(bottom, _mix(self.skin, self.line, 0.5), 0.016)
        if mood.tears > 0.15:
            self.tear(x, y + lower, side)

    def iris(self, x: float, y: float, upper: float, lower: float) -> None:
        mood = self.mood
        cx, cy = x + 0.055 * mood.look_x, y + 0.01 + 0.045 * mood.look_y
        self.fill(_ellipse(cx, cy, 0.07, min(0.07, (upper + lower) / 2 + 0.012)), (86, 58, 40))
        self.fill(_ellipse(cx, cy, 0.037 * mood.pupils, 0.037 * mood.pupils), (18, 14, 14))
        self.fill(_ellipse(cx + 0.022, cy - 0.026, 0.015, 0.015), (255, 255, 255))

    def lid(self, top: Points, bottom: Points, upper: float, lower: float) -> None:
        """Skin over what the lids hide of the iris."""
        above = top.copy()
        above[:, 1] = top[:, 1].min() - max(0.0, 0.115 - upper) - 0.02
        self.fill(np.concatenate([above, top[::-1]]), self.skin)
        below = bottom.copy()
        below[:, 1] = bottom[:, 1].max() + max(0.0, 0.1 - lower) + 0.02
        self.fill(np.concatenate([bottom, below[::-1]]), self.skin)

    def tear(self, x: float, y: float, side: int) -> None:
        slide = (0.35 * self.moment.time + 0.5 * (side > 0)) % 1.0
        drop = _ellipse(x + 0.07 * side, y + 0.08 + 0.3 * slide, 0.026, 0.045)
        self.fill(drop, _mix((120, 180, 232), self.skin, 1 - min(1.0, self.mood.tears * 1.4)))

    def brow(self, side: int) -> None:
        mood = self.mood
        arc = np.linspace(0, 1, 16)  # from the inner end outwards
        x = side * (0.1 - 0.02 * max(0.0, -mood.slant) + 0.29 * arc)
        lift = 0.13 * mood.raise_brows + (0.08 * mood.uneven if side > 0 else -0.05 * mood.uneven)
        y = -0.32 - lift - 0.13 * mood.slant * (1 - arc) + 0.05 * mood.slant * arc - 0.055 * np.sin(np.pi * arc)
        self.stroke(np.stack([x, y], axis=1), _mix(self.hair, (40, 26, 20), 0.45), 0.056)
        if mood.slant < -0.5 and side > 0:
            for dx in (-0.025, 0.025):
                self.stroke(np.array([[dx, -0.34], [dx * 1.3, -0.22]]), _mix(self.skin, self.line, 0.55), 0.016)

    def nose(self) -> None:
        lift = 0.04 * self.mood.sneer
        bridge = np.array(
            [[0.02, -0.02], [0.05, 0.1], [0.085, 0.19 - lift], [0.03, 0.225 - lift], [-0.05, 0.215 - lift]]
        )
        self.stroke(bridge, _mix(self.skin, self.line, 0.5), 0.02)
        if self.mood.sneer > 0.3:
            crease = _mix(self.skin, self.line, 0.55)
            for y in (-0.03, 0.03):
                self.stroke(np.array([[-0.055, y + 0.02], [0.0, y], [0.055, y + 0.02]]), crease, 0.016)
            for side in (-1, 1):
                self.stroke(np.array([[0.13 * side, 0.18], [0.22 * side, 0.27], [0.26 * side, 0.38]]), crease, 0.016)

    def mouth(self) -> None:
        mood, arc = self.mood, np.linspace(-1, 1, 32)
        gap = max(0.0, 0.14 * mood.part + 0.13 * self.moment.loudness * (0.65 + 0.35 * (1 - mood.smile**2)))
        half = 0.23 * mood.wide * (1 + 0.16 * max(0.0, mood.smile)) - 0.3 * gap * (mood.smile < 0.5)
        middle = 0.45 + 0.035 * mood.smile - 0.02 * mood.sneer
        corners = middle - 0.15 * mood.smile * arc**2
        rounded = 1 - np.abs(arc) ** 2.2
        upper = corners - (0.4 * gap + 0.055 * mood.sneer * (1 + 0.5 * arc)) * rounded
        lower = corners + (0.9 * gap + (0.035 if gap > 0.02 else 0.0)) * rounded
        x = half * arc
        top, bottom = np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)
        lips = _mix(_mix(self.skin, (186, 52, 62), 0.62), (235, 225, 225), 0.2 * mood.pale)
        if gap > 0.015 or mood.sneer > 0.3:
            self.inside(top, bottom, gap)
        self.stroke(bottom, lips, 0.052)
        self.stroke(top, lips, 0.044)
        if gap <= 0.015:
            self.stroke((top + bottom) / 2, _mix(lips, (50, 12, 16), 0.6), 0.018)

    def inside(self, top: Points, bottom: Points, gap: float) -> None:
        self.fill(np.concatenate([top, bottom[::-1]]), (88, 22, 28))
        if gap > 0.09:
            self.fill(np.concatenate([0.35 * top + 0.65 * bottom, bottom[::-1]])[6:-6], (196, 92, 96))
        shown = max(self.mood.teeth, 0.7 * (self.mood.smile > 0.5), 0.5 * (gap > 0.06))
        if shown > 0.2:
            edge = top + (bottom - top) * min(0.75, 0.5 * shown + 0.1)
            self.fill(np.concatenate([top[3:-3], edge[3:-3][::-1]]), (247, 244, 238))

    def beard_shape(self) -> Points:
        jaw = _ellipse(0, 0.05, 0.6, 0.82, 12, 168)
        jaw[:, 0] *= 0.88
        return np.concatenate([jaw, np.array([[-0.4, 0.34], [0.0, 0.28], [0.4, 0.34]])])

    def hair_in_front(self) -> None:
        style = self.look.style
        if style == "bald":
            return
        crown = _ellipse(0, -0.16, 0.69, 0.74, 172, 368)
        fringe = {"short": 0.58, "long": 0.54, "bun": 0.64, "curly": 0.58}[style]
        arc = np.linspace(1, -1, 24)
        part = 0.05 * np.sin(2.2 * arc + 0.6) if style in ("short", "long") else 0.0 * arc
        edge = np.stack([0.62 * arc, -fringe + 0.44 * np.abs(arc) ** 2.2 + part], axis=1)
        self.fill(np.concatenate([crown, edge]), self.hair)
        if style == "long":
            for side in (-1, 1):
                lock = np.array([[0.6, -0.3], [0.7, -0.1], [0.76, 0.9], [0.56, 0.86], [0.58, 0.1]])
                self.fill(lock * np.array([side, 1]), _mix(self.hair, (0, 0, 0), 0.1))

    def glasses(self) -> None:
        frame = (44, 44, 52)
        for side in (-1, 1):
            self.stroke(_ellipse(0.25 * side, -0.09, 0.19, 0.17), frame, 0.022)
        self.stroke(np.array([[-0.06, -0.11], [0.06, -0.11]]), frame, 0.022)
