"""Crisis wording: found where it is, and not in sayings; what a deployer writes is read or refused."""

from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.schema import Turn
from pride_mm.serving.safety import load_safety

FOUND = {
    "suicide": [
        "I want to kill myself.",
        "honestly i just want to end it all",
        "I've been feeling suicidal since March",
        "I don’t want to be alive",
        "I don't want to live anymore.",
        "I do not want to live any more",
        "They'd be better off without me",
        "Sometimes I wish I was dead",
        "There is no point in living.",
        "I keep thinking about suicide",
        "I have nothing left to live for",
        "I   WANT\nto DIE",
    ],
    "self_harm": [
        "I started cutting myself again",
        "I have the urge to hurt myself",
        "I self-harm when he leaves",
        "I cut my wrists last night",
    ],
    "abuse": [
        "My husband beats me when he drinks",
        "my stepfather hit me yesterday",
        "My mother has beaten me again",
        "I was raped",
        "I'm scared he will kill me",
        "she threatened to stab me",
    ],
    "danger": [
        "He has a gun",
        "I just took all my pills",
        "I took a whole bottle of sleeping pills",
        "I am not safe",
        "someone has broken into our flat",
    ],
}
HARMLESS = [
    "this deadline is killing me",
    "I nearly killed myself laughing",
    "I was killing myself laughing",
    "I could kill for a coffee",
    "I'm dying to see you",
    "My brother committed suicide ten years ago",
    "I was so embarrassed I wanted to die",
    "She beat me at chess",
    "my dad kicked me out of the kitchen",
    "It hit me that I was alone",
    "I cut myself shaving",
    "I have been cutting myself some slack",
    "I hurt myself playing football",
    "I don't want to live in this city anymore",
    "We watched Suicide Squad",
    "My phone died",
    "I took my pills this morning",
    "Shoot me an email",
    "I want to diet",
    "My dog is going to die and I can't stop crying",
    "I feel safe here",
    "I was attacked by a goose",
]


@pytest.mark.parametrize(("concern", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_what_a_person_in_danger_says_is_found(concern: str, text: str) -> None:
    safety = load_safety()
    assert safety is not None
    assert safety.concern_in(text) == concern
    assert safety.concern_in(f"Hello there. {text} That is all!") == concern


@pytest.mark.parametrize("text", HARMLESS)
def test_sayings_are_not_taken_for_it(text: str) -> None:
    safety = load_safety()
    assert safety is not None
    assert safety.concern_in(text) is None


def test_only_what_is_to_be_answered_is_looked_at() -> None:
    safety = load_safety()
    assert safety is not None
    bad, good = Turn(speaker="a", text="I want to die"), Turn(speaker="a", text="I feel better now.")
    answer = Turn(speaker="b", text="Tell me more.")
    assert safety.concern([bad]) == safety.concern([answer, bad, good]) == "suicide"
    assert safety.concern([bad, answer, good]) is None
    assert safety.concern([]) is None


def test_a_deployer_writes_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[referral]\ntext = "Ruf an."\n[patterns]\nsuizid = ["nicht mehr leben"]\n')
    safety = load_safety(mine)
    assert safety is not None
    assert safety.referral.text == "Ruf an."
    assert safety.concern_in("Ich will nicht mehr leben.") == "suizid"
    assert load_safety("off") is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('[referral]\ntext = ""\n[patterns]\na = ["b"]\n', "referral.text"),
        ('[referral]\ntext = "x"\n[patterns]\na = ["("]\n', "pattern 1 of 'a' is no regular expression"),
        ('[referral]\ntext = "x"\n[patterns]\na = ["b", "c*"]\n', "pattern 2 of 'a' finds nothing at all"),
        ('harmless = ["["]\n[referral]\ntext = "x"\n[patterns]\na = ["b"]\n', "pattern 1 of 'harmless' is no regular"),
        ('[referral]\ntext = "x"\n[patterns]\n', "no pattern: give some, or switch the safety off"),
        ('[referal]\ntext = "x"\n[patterns]\na = ["b"]\n', "referal: no such setting; did you mean 'referral'"),
    ],
)
def test_mistakes_in_it_are_named(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(written)
    with pytest.raises(UserError, match=said):
        load_safety(tmp_path / "mine.toml")
    with pytest.raises(UserError, match=r"No safety 'nope': .*crisis"):
        load_safety("nope")
