"""The queue of pooled features."""

import torch

from pride_mm.training.queue import FeatureQueue


def test_the_newest_come_first_and_the_oldest_go():
    queue = FeatureQueue(4, 2, 3)
    for number in range(1, 4):
        queue.remember(torch.full((2, 2), float(number)), torch.full((2, 3), float(number)))
    students, teachers = queue.join(torch.zeros(1, 2), torch.zeros(1, 3))
    assert students[:, 0].tolist() == [0, 3, 3, 2, 2]
    assert teachers[:, 0].tolist() == [0, 3, 3, 2, 2]


def test_only_the_new_features_carry_a_gradient():
    queue = FeatureQueue(4, 2, 2)
    queue.remember(torch.ones(2, 2, requires_grad=True), torch.ones(2, 2))
    new = torch.ones(1, 2, requires_grad=True)
    queue.join(new, torch.ones(1, 2))[0].sum().backward()
    assert new.grad is not None
    assert not queue.student.requires_grad


def test_a_batch_larger_than_the_queue():
    queue = FeatureQueue(2, 1, 1)
    queue.remember(torch.arange(5.0)[:, None], torch.arange(5.0)[:, None])
    assert queue.join(torch.zeros(0, 1), torch.zeros(0, 1))[0].flatten().tolist() == [0, 1]
