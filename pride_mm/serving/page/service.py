"""The page as it is served: its students, its door, and a folder for uploads that goes when it does.

Promise: nothing outside of this machine is asked for anything, by the program or by the browser; an upload lies in a
folder that only this user reads until its line is sent, and no longer; nothing of what was said is logged.
"""

import importlib.util
import logging
import multiprocessing.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI

from pride_mm.errors import UserError
from pride_mm.serving.answerer import LIMITS, Answerer, Decoders, Limits
from pride_mm.serving.artifact import read_record
from pride_mm.serving.batching import where
from pride_mm.serving.meters import Meters
from pride_mm.serving.page.door import Door
from pride_mm.serving.page.talk import Partner, Talk
from pride_mm.serving.page.votes import Contender, Vote, Votes
from pride_mm.serving.predictor import Predictor

_log = logging.getLogger("pride.app")
_FONT = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")


class Page:
    """One student, or two side by side, behind a web page; ``app`` is the ASGI application.

    Args:
        artifacts: the folders of one student or two.
        limits: what it takes.
        key: the password; None asks for none.
        hosts: the names by which it may be called; None for any.
        device: where the students answer.
        safety: for ``load_safety``.
        votes: where votes are kept, for two.

    Raises:
        UserError: the extra isn't installed, an artifact is none, or the safety isn't.
    """

    def __init__(
        self,
        artifacts: Sequence[Path],
        limits: Limits = LIMITS,
        key: str | None = None,
        hosts: tuple[str, ...] | None = ("127.0.0.1", "localhost", "[::1]"),
        device: str = "cpu",
        safety: str | Path = "crisis",
        votes: Votes | None = None,
    ) -> None:
        _keep_offline()
        # what is refused is refused before there is a folder or a process
        opened = [(Predictor.open(artifact, device, safety), _weights(artifact)) for artifact in artifacts]
        self._folder = tempfile.TemporaryDirectory(prefix="pride-app-")
        files = Path(self._folder.name).resolve()
        gradio = _gradio(files)
        self.limits, self.votes = limits, votes
        meters = Meters()
        self._decoders = Decoders(limits, meters)
        self.partners = [
            Partner(name, weights, Answerer(predictor, self._decoders, meters))
            for name, (predictor, weights) in zip(names(artifacts), opened, strict=True)
        ]
        self._inside = self._mounted(gradio)
        self.app = Door(self._inside, files, key, hosts, limits.mebibytes)

    def hang_up(self) -> None:
        """End the connections that open pages keep."""
        self._blocks.close(verbose=False)
        self._gradio_app.stop_event.set()

    def close(self) -> None:
        """End its processes and threads, and delete what was uploaded."""
        self._decoders.close()
        for partner in self.partners:
            partner.answerer.close()
        tempfile.tempdir = None
        self._folder.cleanup()

    def _mounted(self, gradio: Any) -> FastAPI:
        from pride_mm.serving.page.blocks import LOOK, Desk, build

        desk = Desk(self.partners, self.limits.batch, self.limits.concurrent, self._vote, self._admit, self._count)
        self._blocks = build(desk)
        app = FastAPI(openapi_url=None)
        gradio.mount_gradio_app(
            app,
            self._blocks,
            "/",
            footer_links=[],
            run_history=False,  # it would keep what was said in the browser
            app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None},
            show_error=False,
            max_file_size=self.limits.mebibytes << 20,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=gradio.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=_MONO),
            css_paths=[LOOK],
        )
        self._gradio_app = cast(Any, app.routes[-1]).app  # what was mounted last
        return app

    def _admit(self) -> None:
        if self.app.draining:
            raise UserError("This page is stopping.")

    def _count(self, more: int) -> None:
        self.app.at_once += more

    def _vote(self, talk: Talk, vote: Vote) -> None:
        assert self.votes is not None, "two students are voted on"
        left, right = (Contender(name=side.partner.name, weights=dict(side.partner.weights)) for side in talk.sides)
        self.votes.add(left, right, vote, len(talk.shown))


def names(artifacts: Sequence[Path]) -> list[str]:
    """What the artifacts are called: by their folders, and where these are alike by the folders around them."""
    paths = [path.resolve() for path in artifacts]
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len({*paths}):
        parts += 1
    return ["/".join(path.parts[-parts:]) for path in paths]


def _weights(artifact: Path) -> Mapping[str, str]:
    return {name: digest for name, digest in read_record(artifact).files.items() if name.endswith(".safetensors")}


def _keep_offline() -> None:
    """Tell what will be imported to keep to itself."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs the extra 'app': pip install 'pride-mm[app]'.")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def _gradio(files: Path) -> Any:
    """Gradio, with its files in ``files``."""
    os.environ["GRADIO_TEMP_DIR"] = str(files)
    multiprocessing.util.get_temp_dir()  # which outlives the folder
    tempfile.tempdir = str(files)  # an upload that is broken off lies there, too
    import gradio
    from gradio import queueing, route_utils

    # it prints whole errors, in which may be what somebody has sent
    queueing.traceback = route_utils.traceback = SimpleNamespace(print_exc=_log_place)
    return gradio


def _log_place() -> None:
    error = sys.exc_info()[1]
    if error is not None:
        _log.error("the page failed: %s", where(error))
