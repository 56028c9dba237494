"""Where the time of a few steps goes: a trace for Perfetto, and a picture of its parts.

Neither has a word of the data in it: names of operators and parts, and times.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pride_mm.files import write_json, write_text
from pride_mm.page import svg

TRACE, PROFILE, PICTURE = "trace.json.gz", "profile.json", "profile.svg"
SKIPPED, WARMUP, STEPS = 2, 1, 3
"""Steps that aren't looked at, that are and don't count, and that do."""
PARTS = {
    "wait": "waiting for data",
    "teach": "teacher asked",
    "forward": "forward",
    "backward": "backward",
    "update": "clipping and AdamW",
    "save": "copy for a checkpoint",
    "validate": "validation",
}
"""What a step is made of, by the name behind ``pride.`` that ``record_function`` gives it; all else is the rest."""
_PREFIX, _STEP = "pride.", "ProfilerStep"
_OPERATORS, _LETTERS = 10, 34
_COLOURS = ("#4a7ba7", "#a63d5a", "#2f6f6b", "#5b5ea6", "#c46a2b", "#7a7d1f", "#8a8f98", "#dde2ea")


class Tracer:
    """Looks at a few steps of a run.

    Args:
        run: its folder, where ``trace.json.gz``, ``profile.json`` and ``profile.svg`` will be; None looks at nothing.
    """

    def __init__(self, run: Path | None) -> None:
        self._run, self._profile, self._done = run, None, 0
        if run is not None:
            for name in (TRACE, PROFILE, PICTURE):
                (run / name).unlink(missing_ok=True)
            on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profile(
                activities=[ProfilerActivity.CPU, *on_gpu],
                schedule=schedule(skip_first=SKIPPED, wait=0, warmup=WARMUP, active=STEPS, repeat=1),
                on_trace_ready=self._write,
                acc_events=True,
            )

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While the block lasts."""
        if self._profile is None:
            yield
            return
        with self._profile:
            yield

    def step(self) -> None:
        """Say that a step is over."""
        if self._profile is not None:
            self._done += 1
            self._profile.step()

    def _write(self, found: Any) -> None:
        assert self._run is not None
        averages = {one.key: one for one in found.key_averages()}
        steps = next((one for name, one in averages.items() if name.startswith(_STEP)), None)
        if steps is None or self._done < SKIPPED + WARMUP + STEPS:
            return
        found.export_chrome_trace(str(self._run / TRACE))
        each = 1e-6 / steps.count
        parts = {name: averages[_PREFIX + name].cpu_time_total * each for name in PARTS if _PREFIX + name in averages}
        parts["rest"] = max(0.0, steps.cpu_time_total * each - sum(parts.values()))
        named = (_PREFIX, _STEP, "Optimizer.")
        operators = {name: one for name, one in averages.items() if not name.startswith(named)}
        on_device = any(one.self_device_time_total for one in operators.values())
        taken = {
            name: (one.self_device_time_total if on_device else one.self_cpu_time_total) * each
            for name, one in operators.items()
        }
        most = dict(sorted(taken.items(), key=lambda one: -one[1])[:_OPERATORS])
        about = {
            "steps": steps.count,
            "seconds": steps.cpu_time_total * each,
            "device": torch.cuda.get_device_name() if on_device else "cpu",
            "parts": parts,
            "operators": most | {"all others": sum(taken.values()) - sum(most.values())},
        }
        write_json(self._run / PROFILE, about)
        write_text(self._run / PICTURE, draw(about))


def draw(about: dict[str, Any]) -> str:
    """A picture of a ``profile.json``: a step by its parts, and by its operators."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[1, 3])
    left = 0.0
    labels = PARTS | {"rest": "the rest"}
    for (name, seconds), colour in zip(about["parts"].items(), _COLOURS, strict=False):
        above.barh([0], [seconds], left=left, color=colour, label=f"{labels[name]} {seconds / about['seconds']:.0%}")
        left += seconds
    above.set_yticks([])
    above.set_xlim(0, left)
    above.set_title(f"A step: {about['seconds']:.3g} s on {about['device']}", loc="left", fontsize=10)
    above.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=3, fontsize=8, frameon=False)
    operators = list(about["operators"].items())[::-1]
    below.barh(range(len(operators)), [1e3 * seconds for _, seconds in operators], color=_COLOURS[2])
    below.set_yticks(range(len(operators)), [_short(name) for name, _ in operators])
    below.set_xlabel("ms of a step, by operator", fontsize=9)
    for axis in (above, below):
        axis.tick_params(labelsize=8, length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
    return str(svg(figure))


def _short(operator: str) -> str:
    """Without where it comes from."""
    if "DataLoader" in operator:
        return "reading batches"
    name = operator.rpartition("::")[2].strip("_")
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
