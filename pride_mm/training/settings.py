"""What a run is: read from ``configs/run/*.toml``, ``--set key=value`` on top."""

from typing import Annotated, Literal, Self

from pydantic import Field as Setting
from pydantic import model_validator

from pride_mm.losses.alignment import POOLED, DualAlignment
from pride_mm.schema import Frozen, Kind
from pride_mm.student.config import EncoderSettings, Fusion
from pride_mm.training.privileged import Place

Positive = Annotated[int, Setting(ge=1)]
Fraction = Annotated[float, Setting(ge=0, le=1)]


class LoraSettings(Frozen):
    """Low-rank adapters in place of a model's own weights.

    Attributes:
        alpha: what they add is scaled by ``alpha / rank``.
        targets: last parts of the names of the linear layers that get one, such as q_proj; None is all, but no
            language model's head.
    """

    rank: Positive = 16
    alpha: Positive = 32
    targets: Annotated[tuple[str, ...], Setting(min_length=1)] | None = None
    dropout: Annotated[float, Setting(ge=0, lt=1)] = 0.0


class AdaptedEncoder(EncoderSettings):
    """An encoder of a run: trained, frozen with ``trained=false``, or with ``lora`` adapted."""

    lora: LoraSettings | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.lora is not None and not self.trained:
            raise ValueError("lora trains, and trained=false freezes: leave one of them out")
        return self

    @property
    def plain(self) -> EncoderSettings:
        """Without what only training needs."""
        return EncoderSettings.model_validate(self.model_dump(exclude={"lora"}))


class StudentSettings(Frozen):
    """The student's make.

    Attributes:
        backbone: Hugging Face name or folder, or ``smollm2-135m`` from the package index.
        layers: evenly spaced layers kept of the backbone; None keeps all.
        freeze_vocabulary: leave the embedding and the head as the backbone has them; they are more than half of a
            small student's weights, and little data only spoils them.
        lora: trains low-rank adapters instead of the backbone's weights; not given, all are trained.
        recompute: the backbone's activations are computed again for the gradient (gradient checkpointing), which
            takes less memory and a third more time, and changes nothing else.
        compile: torch.compile of the backbone: a minute or two at the start, faster steps from then on. Wants a C++
            compiler.
        attention_kernel: what computes the backbone's attention; those of flash attention want its package and a GPU.
        latents: latents per source.
        fusion: how the text gets to see the sources: multi_source, or for comparison joint, hierarchical or concat.
        attended_layers: layers of the student, from 1 on, before which the text attends to the sources again; before
            the first it does so anyway.
        video, audio: the encoders.
        system: what the student is told before every dialogue, in training and when it is served.
    """

    backbone: str = "smollm2-135m"
    layers: Positive | None = None
    freeze_vocabulary: bool = True
    lora: LoraSettings | None = None
    recompute: bool = False
    compile: bool = False
    attention_kernel: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    latents: Positive = 8
    fusion: Fusion = "multi_source"
    attended_layers: tuple[Positive, ...] = ()
    video: AdaptedEncoder = AdaptedEncoder(name="torchvision")
    audio: AdaptedEncoder = AdaptedEncoder(name="logmel")
    system: str = ""

    @property
    def encoders(self) -> dict[Kind, AdaptedEncoder]:
        """By the kind of media."""
        return {Kind.VIDEO: self.video, Kind.AUDIO: self.audio}


class DataSettings(Frozen):
    """How samples become batches. Lengths in tokens.

    Attributes:
        batch_size: samples a step, which the ranks share; with ``tokens``, at most.
        at_once: samples that go through the student at a time; None is the whole batch. Less takes less memory and more
            time, and gives the same gradient.
        tokens: makes batches of about this many tokens on each rank, padding counted, out of samples of about equal
            length.
        weights: of several sets of shards, in passes an epoch: with 0.5 an epoch holds half of a set. Not given, all 1.
        features_gib: disk in the run's folder for what frozen encoders make of media, which is then encoded once; not
            given, each epoch encodes it again.
        workers: processes that read and decode.
        max_bad: samples that may be left out because they cannot be read or decoded.
    """

    batch_size: Positive = 8
    at_once: Positive | None = None
    tokens: Positive | None = None
    max_context: Positive = 192
    max_response: Positive = 48
    max_note: Positive = 64
    weights: tuple[Annotated[float, Setting(ge=1e-6, allow_inf_nan=False)], ...] | None = None
    features_gib: Annotated[float, Setting(ge=0, allow_inf_nan=False)] = 0.0
    workers: Annotated[int, Setting(ge=0)] = 0
    max_bad: Annotated[int, Setting(ge=0)] = 0


class OptimSettings(Frozen):
    """AdamW with a linear warm-up and a cosine decay to a tenth.

    ``fresh_lr`` is for what starts from nothing (encoders, attention, heads); ``lr`` for the backbone. ``norms_every``:
    in one of so many steps, the norm of each term's gradient is logged, which costs another step; 0 never.
    ``precision``: what the student computes in while it is trained; weights and losses stay in float32.
    ``patience``: so many epochs without a better validation loss end the run; not given, it goes through all.
    ``not_finite``: what becomes of a step whose gradient is no number; its samples are in not_finite.jsonl.
    ``average``: decay of an exponential moving average of the weights, such as 0.999, which is what is validated and
    saved as the student; not given, the weights themselves are.
    """

    lr: Annotated[float, Setting(gt=0)] = 2e-4
    fresh_lr: Annotated[float, Setting(gt=0)] = 1e-3
    weight_decay: Annotated[float, Setting(ge=0)] = 0.01
    warmup: Annotated[int, Setting(ge=0)] = 10
    clip: Annotated[float, Setting(gt=0)] = 1.0
    epochs: Positive = 4
    norms_every: Annotated[int, Setting(ge=0)] = 100
    precision: Literal["fp32", "bf16"] = "fp32"
    patience: Positive | None = None
    not_finite: Literal["stop", "skip"] = "stop"
    average: Annotated[float, Setting(gt=0, lt=1)] | None = None


class CheckpointSettings(Frozen):
    """How often a run is saved, beside the end of each epoch.

    Attributes:
        minutes: at least so often.
        steps: at each multiple of it, too.
        keep: how many of the newest stay, beside the best.
    """

    minutes: Annotated[float, Setting(gt=0)] = 10.0
    steps: Positive | None = None
    keep: Positive = 1


class RankSettings(Frozen):
    """What several processes share, beside the samples of a step.

    Attributes:
        weights: ``copied``, each has all of them (DDP); ``spread``, each has a part of the weights, gradients and
            moments (FSDP2), which takes less memory and more talk. The result is the same.
    """

    weights: Literal["copied", "spread"] = "copied"


class PrivilegedSettings(Frozen):
    """How the notes are read while training.

    Attributes:
        field_dropout: chance that a field of a row is not shown.
        row_dropout: chance that a row is trained without its notes in the privileged pass; it rises to 1
            over the last fifth of training, so that training ends as deployment begins.
        place: where they are read: ``beside`` the sources behind a gate (among them, where student.fusion isn't
            multi_source), or ``instead`` of the latents that are predicted of them.
    """

    field_dropout: Fraction = 0.3
    row_dropout: Fraction = 0.3
    place: Literal["beside", "instead"] = "beside"

    def place_in(self, fusion: Fusion) -> Place:
        """Where a student of such a fusion reads the notes."""
        return "among" if self.place == "beside" and fusion != "multi_source" else self.place


class TeacherSettings(Frozen):
    """A teacher of the student's family that is asked while the student trains, in place of a cache.

    Attributes:
        model: Hugging Face name or folder, or ``smollm2-135m``.
        dtype: of its weights.
        prompt, max_prompt, notes: as ``pride teach`` takes them.
        on_policy: chance that a step is taken on what the student itself says, which the teacher then scores (GKD,
            arXiv 2306.13649); 0 is on the experts' words alone.
        temperature: of what the student says; below 1 it says likelier things.
    """

    model: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    prompt: str = "empathy_reasoning"
    max_prompt: Positive = 768
    notes: Literal["given", "none"] = "given"
    on_policy: Fraction = 0.5
    temperature: Annotated[float, Setting(gt=0)] = 1.0


class RunSettings(Frozen):
    """One training run.

    Attributes:
        teacher: asked in training; not given, what 'pride teach' cached is read.
        answers: how many samples of the validation split are answered each time it is measured, in answers.jsonl.
        trackers: where its numbers go beside metrics.jsonl; TensorBoard's go to the folder of runs.
    """

    name: Annotated[str, Setting(pattern=r"^[A-Za-z0-9_-]+$")]
    description: str = ""
    seed: int = 0
    student: StudentSettings = StudentSettings()
    data: DataSettings = DataSettings()
    optim: OptimSettings = OptimSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    ranks: RankSettings = RankSettings()
    privileged: PrivilegedSettings = PrivilegedSettings()
    loss: DualAlignment = DualAlignment()
    teacher: TeacherSettings | None = None
    answers: Annotated[int, Setting(ge=0)] = 2
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()

    @model_validator(mode="after")
    def _heard(self) -> Self:
        if self.teacher is not None and not self.loss.uses("kd", *POOLED):
            raise ValueError(f"teacher is asked and nobody listens: set one of loss.kd, loss.{', loss.'.join(POOLED)}")
        if self.teacher is not None and self.loss.divergence == "universal":
            raise ValueError(
                "loss.divergence=universal is for a teacher of another family, and one that is asked in training is "
                "of the student's: choose another divergence, or leave teacher out"
            )
        return self
