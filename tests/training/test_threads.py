"""The choice of the number of threads, by a clock that the test advances."""

from __future__ import annotations

import pytest
import torch

from sightline.training.threads import PAUSE, Threads, numbers_of_threads, threads_to_try


class Machine:
    """Steps of a known duration for each number of threads."""

    def __init__(self, seconds: dict[int, float], most: int = 2, fewer: int = 1):
        self.seconds, self.time, self.used, self.said = seconds, 0.0, [most], []
        self.threads = Threads(most, fewer, self.said.append, lambda: self.time, self.used.append)

    def run(self, steps: int) -> float:
        """Train; return the share of the steps with the number of threads that is the faster one now."""
        fastest = min(self.seconds, key=lambda count: self.seconds[count])
        good = 0
        for _ in range(steps):
            good += self.used[-1] == fastest
            self.time += self.seconds[self.used[-1]]
            self.threads.step()
        return good / steps


def test_fewer_threads_are_kept_where_their_steps_are_faster() -> None:
    machine = Machine({2: 0.4, 1: 0.1})
    assert machine.run(1000) > 0.95
    assert machine.said == ["computing with 1 thread instead of 2: a step takes 100 ms instead of 400"]


def test_most_threads_are_kept_where_they_are_faster_and_lost_trials_are_short() -> None:
    machine = Machine({2: 0.1, 1: 0.17})
    machine.run(2000)
    assert machine.said == []
    assert machine.time < 2000 * 0.1 * 1.03
    hopeless = Machine({2: 0.1, 1: 10.0})
    hopeless.run(2000)
    assert hopeless.used.count(1) <= 10
    assert hopeless.time < 2000 * 0.1 + 11 * 10.0  # each trial ended after one step


def test_the_choice_follows_the_machine() -> None:
    machine = Machine({2: 0.1, 1: 0.17})
    machine.run(500)
    machine.seconds = {2: 0.5, 1: 0.2}  # another program begins
    machine.run(500)
    assert machine.used[-1] == 1
    machine.seconds = {2: 0.1, 1: 0.17}  # and ends
    machine.run(500)
    assert machine.used[-1] == 2
    assert len(machine.said) == 2


def test_a_validation_is_no_step() -> None:
    machine = Machine({2: 0.1, 1: 0.17})
    for _ in range(40):
        machine.threads.begin_epoch()
        machine.time += 30.0  # before the first step of the epoch
        machine.run(5)
    assert machine.said == []


def test_equal_steps_change_nothing_and_the_number_is_restored() -> None:
    machine = Machine({2: 0.1, 1: 0.0999})
    machine.run(PAUSE + 20)
    machine.threads.end()
    assert machine.used[-1] == 2
    assert machine.said == []


@pytest.mark.parametrize(
    ("minutes", "device", "processes", "workers", "expected"),
    [
        (3.0, "cpu", 1, 1, (2, 1)),
        (3.0, "cpu", 1, 0, (2, 1)),
        (3.0, "cpu", 1, 5, (2, 1)),
        (None, "cpu", 1, 1, (2, 2)),
        (3.0, "meta", 1, 1, (2, 2)),
        (3.0, "cpu", 2, 1, (2, 2)),
    ],
)
def test_only_trainings_by_the_clock_on_one_cpu_try(
    minutes: float | None, device: str, processes: int, workers: int, expected: tuple[int, int]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads_to_try(minutes, torch.device(device), processes, workers) == expected
    finally:
        torch.set_num_threads(before)


def test_a_step_is_measured_with_each_number_of_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert [(count, torch.get_num_threads()) for count in numbers_of_threads(torch.device("cpu"))] == [
            (1, 1),
            (2, 2),
        ]
        for _ in numbers_of_threads(torch.device("cpu")):
            break  # as if training failed
        assert torch.get_num_threads() == 2
        assert list(numbers_of_threads(torch.device("meta"))) == [2]
    finally:
        torch.set_num_threads(before)
