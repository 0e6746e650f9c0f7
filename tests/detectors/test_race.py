"""Which way to a result is taken, by a clock that the test holds."""

import pytest

from legnet_cli.detectors.race import race


class Clock:
    """Stands still but in calls, each of which takes the next of its way's seconds; the last one for ever."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def way(self, name, *seconds):
        left = [0.0, *seconds]  # the first call warms up

        def call():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.mark.parametrize(
    ("rounds", "usual", "other", "winner"),
    [
        (3, [1.0], [0.94], "other"),
        (3, [1.0], [0.96], "usual"),  # faster, but not clearly
        (3, [1.0], [2.0], "usual"),
        (3, [1.0], [0.5, 0.5, 0.99], "usual"),  # one round in three is too much
        (10, [1.0], [0.5, 9.0, 9.0, 0.5], "other"),  # two in ten are noise
        (10, [1.0], [0.5, 9.0, 9.0, 9.0, 0.5], "usual"),
        (3, [1.0, 8.0, 1.0], [0.9, 7.0, 0.9], "other"),  # rounds are compared with themselves
        (3, [1.0, 8.0, 1.0], [0.99, 1.0, 0.99], "usual"),
    ],
)
def test_only_a_clear_margin_changes_the_usual_way(rounds, usual, other, winner):
    clock = Clock()
    found = race({"usual": clock.way("usual", *usual), "other": clock.way("other", *other)}, "usual", rounds, clock)
    assert found.winner == winner
    assert set(found.ms) == {"usual", "other"}


def test_the_fastest_of_several_wins_and_losers_are_not_called_again():
    clock = Clock()
    ways = {"lost": clock.way("lost", 3.0), "usual": clock.way("usual", 1.0)}
    ways |= {"fast": clock.way("fast", 0.5), "faster": clock.way("faster", 0.25)}
    found = race(ways, "usual", 3, clock)
    assert found.winner == "faster"
    assert found.ms == {"lost": 3000.0, "usual": 1000.0, "fast": 500.0, "faster": 250.0}
    assert clock.calls.count("lost") == 2
    assert clock.calls.count("faster") == 4
