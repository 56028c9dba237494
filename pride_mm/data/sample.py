"""The members of a sample, and what they say: which are read, which must be there, and what they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as datum
from typing import Any

from pride_mm.data.index import Index
from pride_mm.data.manifest import TEACHER, Manifest
from pride_mm.data.members import (
    LESSON,
    META,
    REACHED,
    decode_value,
    from_json,
    is_media,
    media_value,
    suffix,
    suffixes,
)
from pride_mm.errors import SampleError
from pride_mm.schema import Field, Loaded, Role, Schema, Value

TAUGHT = f".{TEACHER}"


@dataclass(frozen=True)
class Sample:
    """One item out of a shard. Media are bytes; an absent field is not in its dict.

    ``privileged`` is None where the notes weren't asked for; ``teacher`` is the teacher's member. With the notes comes
    how each agreed value was ``reached``, by field, and in ``drafts`` the model whose draft it is, left as it was.
    """

    key: str
    corpus: str
    inputs: dict[str, Loaded]
    targets: dict[str, Value]
    privileged: dict[str, Value] | None = None
    teacher: bytes | None = None
    meta: dict[str, Any] = datum(default_factory=dict)
    reached: dict[str, str] = datum(default_factory=dict)
    drafts: dict[str, str] = datum(default_factory=dict)


Members = dict[str, Field | None]


def tar_members(schema: Schema, roles: Sequence[Role]) -> Members:
    """Every member that a sample may have in the tar of these roles, by suffix; a teacher's tar has no role."""
    if not roles:
        return {LESSON: None}
    about: Members = {META: None} if Role.INPUT in roles else {}
    about |= {REACHED: None} if Role.PRIVILEGED in roles else {}
    return about | suffixes(field for role in roles for field in schema.of(role))


def check_members(index: Index, tar: str, members: Members) -> None:
    """See that a tar holds what its samples may have and all that they must; raises SampleError with key and field."""
    # packs of before drafts were told apart have nothing about their notes
    required = {
        name: field.name if field else None
        for name, field in members.items()
        if name != REACHED and not (field is not None and is_media(field))
    }
    index.check(tar, members, required)


class Form:
    """What is read of each sample, and how its members become one.

    Args:
        manifest: of the set.
        roles: whose fields are read.
        teacher: whether the teacher's member is.
        media: whether clips and sound are.

    ``parts`` is what the set adds to a shard's name for the tars that are read, ``wanted`` the members of each,
    ``sealed`` how the notes are encrypted, where they are read and are.
    """

    def __init__(self, manifest: Manifest, roles: Sequence[Role], teacher: bool, media: bool) -> None:
        self.schema, self.teacher = manifest.contract, teacher
        self.roles = tuple(Role(role) for role in roles)
        notes = Role.PRIVILEGED in self.roles and bool(self.schema.privileged)
        self.notes = manifest.added(Role.PRIVILEGED) if notes else None
        self.sealed = manifest.sealed if notes else None
        self.parts = tuple(
            dict.fromkeys(["", *([self.notes] if self.notes is not None else []), *([TAUGHT] if teacher else [])])
        )
        self.known = {added: tar_members(self.schema, manifest.roles(added)) for added in self.parts}
        self.wanted = {
            added: frozenset(name for name, field in known.items() if self._wants(name, field, media))
            for added, known in self.known.items()
        }

        self._dialogue = self.schema.dialogue.name
        self._fields = {role: self.schema.of(role) if role in self.roles else () for role in Role}

    def _wants(self, name: str, field: Field | None, media: bool) -> bool:
        if field is None:
            return name != REACHED or self.notes is not None
        return field.role in self.roles and (media or not is_media(field))

    def parse(self, key: str, members: Mapping[str, bytes], shard: str) -> Sample:
        """The sample; raises SampleError with tar, key and field where a member doesn't fit the schema."""
        where = f"{shard}.tar: {key}"
        meta = _meta(members.get(META, b""), where)
        inputs = decode_role(self._fields[Role.INPUT], members, where)
        turns = _turns(self._dialogue, inputs)
        targets = decode_role(self._fields[Role.TARGET], members, where, turns)
        notes: dict[str, Loaded] | None = {} if Role.PRIVILEGED in self.roles else None
        about: tuple[dict[str, str], dict[str, str]] = {}, {}
        if self.notes is not None:
            where = f"{shard}{self.notes}.tar: {key}"
            notes = decode_role(self._fields[Role.PRIVILEGED], members, where, turns)
            about = read_reached(members.get(REACHED), where)
        teacher = members[LESSON] if self.teacher else None
        return Sample(key, str(meta.get("corpus", "")), inputs, targets, notes, teacher, meta, *about)  # type: ignore[arg-type]


def decode_role(
    fields: Sequence[Field], members: Mapping[str, bytes], place: str, turns: int | None = None
) -> dict[str, Loaded]:
    """The values of some fields out of a sample's members; raises SampleError with place and field."""
    values: dict[str, Loaded] = {}
    value: Loaded | None
    for field in fields:
        try:
            if is_media(field):
                value = media_value(field, members)
            else:
                data = members.get(suffix(field))
                value = None if data is None else decode_value(field, data, turns)
        except ValueError as error:
            raise SampleError(place, field.name, str(error)) from None
        if value is not None:
            values[field.name] = value
    return values


def read_reached(data: bytes | None, place: str) -> tuple[dict[str, str], dict[str, str]]:
    """How the values of a sample were reached, and which models' drafts they are, by field; raises SampleError."""
    try:
        raw = {"how": {}, "drafts": {}} if data is None else from_json(data)
        how, drafts = ({str(name): str(text) for name, text in raw[part].items() if text} for part in ("how", "drafts"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SampleError(place, None, f"'{REACHED}' is not what was packed") from None
    return how, drafts


def _turns(dialogue_field: str, inputs: Mapping[str, Any]) -> int | None:
    dialogue = inputs.get(dialogue_field)
    return len(dialogue) if dialogue is not None else None


def _meta(data: bytes, place: str) -> dict[str, Any]:
    try:
        meta = from_json(data)
    except ValueError as error:
        raise SampleError(place, None, f"{META} is {error}") from None
    return meta if isinstance(meta, dict) else {}
