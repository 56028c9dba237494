"""What is sealed opens with its key, as it was, in its own place, and in no other way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pride_mm.data.seal import NOTES_KEY, Seal, Sealing, new_seal, seal_of
from pride_mm.errors import SampleError, UserError

KEY, OTHER = bytes(range(32)), bytes(32)
MEMBERS = st.dictionaries(st.sampled_from(["privileged.a.txt", "privileged.b.json", "meta.notes.json"]), st.binary())


@given(MEMBERS)
def test_what_is_sealed_opens_and_is_the_same_each_time(members: dict[str, bytes]) -> None:
    sealed = Seal(KEY).seal("k", members)
    assert Seal(KEY).open("t", "k", sealed) == members
    assert Seal(KEY).seal("k", members) == sealed
    assert all(len(data) % 512 == 0 for data in sealed.values()), "a choice isn't told by its length"


@given(st.binary(min_size=8), st.data())
def test_no_byte_can_be_changed(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(Seal(KEY).seal("k", {"privileged.a.txt": data})["privileged.a.txt"])
    assert data not in sealed
    sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(SampleError, match=r"^t: k: a: the key doesn't open it"):
        Seal(KEY).open("t", "k", {"privileged.a.txt": bytes(sealed)})


@pytest.mark.parametrize("lost", [b"", b"short", b"plain text that nobody sealed"])
def test_what_was_never_sealed_is_refused(lost: bytes) -> None:
    with pytest.raises(SampleError, match="the key doesn't open it"):
        Seal(KEY).open("t", "k", {"privileged.a.txt": lost})


def test_a_member_belongs_to_one_sample_and_one_field() -> None:
    sealed = Seal(KEY).seal("k", {"privileged.a.txt": b"sad"})["privileged.a.txt"]
    for key, suffix in (("other", "privileged.a.txt"), ("k", "privileged.b.txt")):
        with pytest.raises(SampleError, match="belongs elsewhere"):
            Seal(KEY).open("t", key, {suffix: sealed})


def test_it_is_what_rfc_5297_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    # appendix A.1, deterministic authenticated encryption
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    bound, plain = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627"), "112233445566778899aabbccddee"
    wanted = "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"
    assert AESSIV(key).encrypt(bytes.fromhex(plain), [bound]).hex() == wanted


def test_the_key_comes_from_the_environment_and_is_named_by_what_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTES_KEY, raising=False)
    with pytest.raises(UserError, match="put one into PRIDE_NOTES_KEY; `openssl rand -hex 32` makes one"):
        new_seal()
    about = Seal(KEY).about
    with pytest.raises(UserError, match=f"The notes of here are encrypted: put the key '{about.key}'"):
        seal_of(about, "here")
    monkeypatch.setenv(NOTES_KEY, "secret")
    with pytest.raises(UserError, match="takes 64 hexadecimal digits, not 6 characters") as error:
        new_seal()
    assert "secret" not in str(error.value)
    monkeypatch.setenv(NOTES_KEY, OTHER.hex())
    with pytest.raises(UserError, match=f"with the key '{about.key}', and PRIDE_NOTES_KEY holds '"):
        seal_of(about, "here")
    monkeypatch.setenv(NOTES_KEY, KEY.hex().upper())
    assert seal_of(about, "here").about == about
    assert about.key not in KEY.hex()
    assert Sealing.model_validate(about.model_dump()) == about
