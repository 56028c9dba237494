"""The small terms of the objective."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from pride_mm.data.batch import Padded
from pride_mm.losses.alignment import (
    TERMS,
    DualAlignment,
    Ramp,
    correct,
    feature_projection,
    heads_loss,
    privileged_gain,
)


def target(values: list[int], mask: list[bool]) -> Padded:
    return Padded(torch.tensor(values), torch.tensor(mask))


def test_heads_count_only_rows_with_a_target():
    logits = {"emotion": torch.randn(3, 4), "sentiment": torch.randn(3, 2)}
    targets = {"emotion": target([1, 9, 2], [True, False, True]), "sentiment": target([0, 0, 0], [False] * 3)}
    expected = F.cross_entropy(logits["emotion"][[0, 2]], torch.tensor([1, 2]))
    torch.testing.assert_close(heads_loss(logits, targets), expected)


def test_no_target_at_all_is_zero_with_a_gradient():
    scores = torch.randn(2, 3, requires_grad=True)
    loss = heads_loss({"emotion": scores}, {})
    loss.backward()
    assert loss == 0
    assert torch.equal(scores.grad, torch.zeros(2, 3))


def test_correct_marks_absent_targets():
    scores = torch.eye(3)
    assert correct(scores, target([0, 0, 2], [True, True, False])).tolist() == [1, 0, -1]


def test_settings_refuse_unknown_and_negative():
    with pytest.raises(ValidationError, match="mdm"):
        DualAlignment.model_validate({"mdm": 1.0})
    with pytest.raises(ValidationError, match="greater than or equal"):
        DualAlignment(kd=-1.0)


def test_projection_is_orthogonal():
    weight = feature_projection(5, 3).weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(3))


def test_gain_has_no_gradient():
    gain = privileged_gain(torch.tensor(2.0, requires_grad=True), torch.tensor(1.5))
    assert gain == 0.5
    assert not gain.requires_grad


def test_a_ramp_is_constant_before_and_after():
    ramp = Ramp(start=1.0, end=0.2, begin=0.25, until=0.75)
    assert [ramp.at(done) for done in (0.0, 0.25, 0.75, 1.0)] == [1.0, 1.0, 0.2, 0.2]
    assert ramp.at(0.5) == pytest.approx(0.6)
    assert Ramp(start=0.0, end=1.0, begin=0.5, until=0.5).at(0.51) == 1.0


def test_weights_are_numbers_at_any_time():
    loss = DualAlignment(kd={"start": 0.0, "end": 1.0}, mmd=0.0)
    assert loss.at(0.5)["kd"] == 0.5
    assert set(loss.at(0.0)) == set(TERMS)
    assert loss.uses("kd")
    assert not loss.uses("mmd", "cka")
