"""LoRA (Hu et al., 2022; PEFT's) on a student's backbone and encoders: trained beside them, merged into what is saved.

The weights under an adapter are frozen and come from the model that was adapted; a checkpoint keeps the adapters by
themselves, to go on, and a student with them merged, which is a plain model.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pride_mm.errors import UserError
from pride_mm.student import Student
from pride_mm.training.settings import LoraSettings, StudentSettings
from pride_mm.training.sharding import alike

_PREFIX = "adapter."


def add_adapters(student: Student, settings: StudentSettings) -> None:
    """Put adapters beside the linear layers of what is to have some, and freeze all else of it.

    Raises:
        UserError: PEFT isn't installed, or no layer has such a name.
    """
    if settings.lora is not None:
        _adapt(student.backbone, settings.lora, "student.lora")
    for name, encoder in student.encoders.items():
        kind = student.schema.get(name).kind
        lora = settings.encoders[kind].lora
        if lora is not None:
            _adapt(getattr(encoder, "body", encoder), lora, f"student.{kind}.lora")


def _adapt(module: nn.Module, settings: LoraSettings, setting: str) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError(f"LoRA needs PEFT: install 'pride-mm[lora]', or leave {setting} out.") from None
    kinds = sorted({name.rpartition(".")[2] for name, one in module.named_modules() if isinstance(one, nn.Linear)})
    if not kinds:
        raise UserError(f"{setting} finds no linear layer to adapt: leave it out, and train the encoder or freeze it.")
    targets = "all-linear" if settings.targets is None else list(settings.targets)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets
    )
    module.requires_grad_(False)
    try:
        inject_adapter_in_model(config, module)
    except ValueError:
        raise UserError(
            f"{setting}.targets {', '.join(settings.targets or ())} fits no layer: choose of {', '.join(kinds)}, or "
            "leave it out for all (of a language model, all but the head)."
        ) from None


def adapter_tensors(student: Student) -> dict[str, Tensor]:
    """What is trained of the adapters, by name; nothing where there are none."""
    return {_PREFIX + name: value for name, value in student.state_dict().items() if ".lora_" in name}


def merged_state(student: Student) -> dict[str, Tensor] | None:
    """The weights of the plain model that answers as this one does; None where nothing has to be merged."""
    adapted = dict(_adapted(student))
    if not adapted:
        return None
    state = {}
    for name, value in student.state_dict().items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        layer = adapted.get(plain.removesuffix(".weight"))
        state[plain] = value if layer is None else value + layer.get_delta_weight("default").to(value.dtype)
    return state


def restore_student(student: Student, plain: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's student and adapters back.

    Args:
        student: made of the same settings; the weights under its adapters are there already.
        plain: what was saved of the student, merged.
        tensors: of the checkpoint's training state, where the adapters are.
    """
    adapted = {f"{name}.{kind}" for name, _ in _adapted(student) for kind in ("weight", "bias")}
    state = {name: value for name, value in plain.items() if name not in adapted}
    state |= {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    mine = student.state_dict()
    state = {name: alike(value, mine.get(name)) for name, value in state.items()}
    missing, unexpected = student.load_state_dict(state, strict=False)
    tied = {name for name in missing if ".base_layer." in name} | set(student.all_tied_weights_keys)
    assert not unexpected, unexpected
    assert set(missing) <= tied, missing


def _adapted(student: Student) -> Iterator[tuple[str, Any]]:
    for name, module in student.named_modules():
        if hasattr(module, "get_delta_weight"):
            yield name, module
