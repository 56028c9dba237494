"""A student with all that it takes to answer strangers: processes that decode what they send, and the thread it has.

Promise: every upload is decoded in a process that may die; who is in danger by what they write is answered with the
referral, and by no student. Whoever serves one, by HTTP or on a page, has it answer here.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field as Setting

from pride_mm.errors import UserError
from pride_mm.media import MediaError
from pride_mm.media.guard import Guard
from pride_mm.schema import AudioField, Frozen, Kind, Schema, VideoField
from pride_mm.serving.batching import Batcher, Event, Job, Said
from pride_mm.serving.meters import Meters
from pride_mm.serving.predictor import Predictor, Reading
from pride_mm.serving.request import Request
from pride_mm.serving.sampling import Choice
from pride_mm.serving.uploads import Upload, read_upload, reason

Positive = Annotated[int, Setting(ge=1)]
Seconds = Annotated[float, Setting(gt=0)]


class Limits(Frozen):
    """What is taken of those who ask.

    Attributes:
        batch: requests answered side by side.
        concurrent: conversations at once; more are told to come again.
        tokens: of the longest answer, and of one for which nothing is said.
        mebibytes: of the body of a request.
        characters: of all its messages.
        clip_seconds: of an upload.
        seconds: from a request to the end of its reply.
        decoders: processes that decode.
        decode_seconds, decode_mebibytes: of one upload.
    """

    batch: Positive = 8
    concurrent: Positive = 64
    tokens: Positive = 128
    mebibytes: Positive = 32
    characters: Positive = 20_000
    clip_seconds: Seconds = 120.0
    seconds: Seconds = 60.0
    decoders: Positive = 2
    decode_seconds: Seconds = 20.0
    decode_mebibytes: Positive = 1024


LIMITS = Limits()


class Decoders:
    """The processes that decode uploads, and the threads that wait for them; several students may share them."""

    def __init__(self, limits: Limits, meters: Meters) -> None:
        self.limits, self._meters = limits, meters
        self.guard = Guard(limits.decode_seconds, limits.decode_mebibytes, processes=limits.decoders)
        meters.restarts.set_function(lambda: self.guard.restarts)
        self._threads = ThreadPoolExecutor(limits.decoders, "decoding")

    def start(self) -> None:
        """Start the processes: one that has started answers at once, and no request waits for its imports."""
        wait([self._threads.submit(self.guard.run, time.sleep, 0.1) for _ in range(self.limits.decoders)])

    def close(self) -> None:
        """End the processes and threads."""
        self.guard.close()
        self._threads.shutdown(cancel_futures=True)

    async def read(self, schema: Schema, uploads: Mapping[Kind, Upload], any_part: bool = False) -> dict[str, Any]:
        """What a student sees and hears of uploads: arrays by field.

        Args:
            schema: the student's.
            uploads: what came, by what it is said to be. A clip is heard as well, unless there is a sound besides.
            any_part: take what the student takes of it, be it nothing; else a clip has to have pictures.

        Raises:
            UserError: what is wrong with one of them.
        """
        read: dict[str, Any] = {}
        inputs, loop = {field.kind for field in schema.inputs}, asyncio.get_running_loop()
        for kind, upload in sorted(uploads.items()):
            kinds = {kind} if kind is Kind.AUDIO or Kind.AUDIO in uploads else {Kind.VIDEO, Kind.AUDIO}
            fields = [
                field for field in schema.inputs if isinstance(field, VideoField | AudioField) and field.kind in kinds
            ]
            wanted = None if any_part else kind if kind in inputs else Kind.AUDIO
            ask = partial(self.guard.run, read_upload, upload, fields, self.limits.clip_seconds, wanted)
            try:
                read |= await loop.run_in_executor(self._threads, ask)
            except MediaError as error:
                self._meters.uploads.labels("refused").inc()
                raise UserError(reason(error, kind)) from None
            self._meters.uploads.labels("read").inc()
        return read


@dataclass(frozen=True)
class Heard:
    """A request whose uploads are decoded.

    Attributes:
        request: the inputs that are words.
        media: arrays by field; none where there is a referral.
        concern: what the words are a sign of; None for nothing.
        referral: the answer to who is in danger; None where a student answers.
    """

    request: Request
    media: Mapping[str, Any]
    concern: str | None
    referral: str | None


@dataclass(frozen=True)
class Asking:
    """A request on its way: where the pieces of its answer come, and whether its oldest turns were left out."""

    events: "asyncio.Queue[Event]"
    job: Job
    shortened: bool


class Answerer:
    """A student who answers requests.

    Args:
        predictor: its student answers; nobody else may use it meanwhile.
        decoders: read what is sent to it.
        meters: count.
    """

    def __init__(self, predictor: Predictor, decoders: Decoders, meters: Meters) -> None:
        self.predictor, self.decoders, self._meters = predictor, decoders, meters
        self.batcher = Batcher(predictor, decoders.limits.batch, meters)
        if {field.kind for field in predictor.schema.inputs} & {Kind.VIDEO, Kind.AUDIO}:
            decoders.start()

    def close(self) -> None:
        """End its thread."""
        self.batcher.close()

    async def hear(self, request: Request, uploads: Mapping[Kind, Upload], any_part: bool = False) -> Heard:
        """A request with what ``Decoders.read`` makes of its uploads; those of who is in danger are not looked at."""
        concern, referral = self.predictor.concern(request)
        media = {} if referral is not None else await self.decoders.read(self.predictor.schema, uploads, any_part)
        return Heard(request, media, concern, referral)

    async def ask(
        self, heard: Heard, until: float, tokens: int | None = None, choice: Choice | None = None, system: str = ""
    ) -> Asking:
        """Have a request answered.

        Args:
            heard: what ``hear`` has made of it.
            until: when its time is over, by ``time.monotonic``.
            tokens: of the longest answer; None for the most that are allowed.
            choice: how tokens are chosen; None takes the likeliest.
            system: put behind what the student was always told.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        context, shortened = await asyncio.to_thread(self.batcher.context, heard.request, system)
        job = Job(
            context=context,
            media=self.batcher.media(heard.media),
            choice=choice or Choice(),
            tokens=tokens or self.decoders.limits.tokens,
            until=until,
            tell=tell,
        )
        self._meters.tokens.labels("read").inc(len(context))
        if heard.referral is not None:
            self._meters.referrals.inc()
            events.put_nowait(Said(heard.referral, "stop", 0, Reading({}, {})))
        else:
            self.batcher.put(job)
        return Asking(events, job, shortened)
