"""When a night calls for a person: canaries, drift, a reward that rises while precision falls, a leak check undone."""

from __future__ import annotations

from medgr2.models.alarms import Figures, alarms, figures
from medgr2.schemas.reports import AuditedShare


def share(value: float) -> AuditedShare:
    return AuditedShare(audited=50, value=value, low=value - 0.08, high=min(1.0, value + 0.04))


def night(run: str, p: float, precision: float | None, lp: float = -0.1) -> Figures:
    return figures(run, [p - 0.1, p + 0.1], [lp, 2 * lp], share(precision) if precision is not None else None)


def test_a_quiet_night_calls_nobody() -> None:
    assert alarms(night("b", 0.71, 0.95), night("a", 0.70, 0.96), 40, 1.0) == ()
    assert alarms(night("b", 0.7, None), None, 0, None) == ()


def test_canaries_that_sing() -> None:
    (told,) = alarms(night("b", 0.7, None), None, 40, 0.9)
    assert told == "canaries: only 0.900 of 40 known-bad items were rejected"


def test_a_reward_that_rises_while_precision_falls() -> None:
    (told,) = alarms(night("b", 0.80, 0.80), night("a", 0.70, 0.95), 40, 1.0)
    assert told.startswith("reward against precision: the mean of p(valid) rose from 0.700 to 0.800")
    assert "since a" in told
    # Either alone is no alarm; nor is a fall that chance may explain.
    assert alarms(night("b", 0.80, 0.95), night("a", 0.70, 0.95), 40, 1.0) == ()
    assert alarms(night("b", 0.70, 0.80), night("a", 0.70, 0.95), 40, 1.0) == ()
    assert alarms(night("b", 0.80, 0.90), night("a", 0.70, 0.95), 40, 1.0) == ()


def test_a_trained_reward_that_rises_is_told_though_the_audits_already_lowered_p() -> None:
    before = figures("a", [0.7], [-0.1], share(0.95), [0.5, 0.7])
    (told,) = alarms(figures("b", [0.3], [-0.1], share(0.3), [0.9, 0.98]), before, 40, 1.0)
    assert told.startswith("reward against precision: the mean of the trained reward rose from 0.600 to 0.940")
    assert alarms(figures("b", [0.3], [-0.1], share(0.3), [0.5, 0.6]), before, 40, 1.0) == ()
    assert alarms(figures("b", [0.3], [-0.1], share(0.3)), before, 40, 1.0) == ()


def test_precision_that_is_not_what_tau_promises() -> None:
    (told,) = alarms(night("b", 0.9, 0.5), None, 40, 1.0, tau=0.8)
    assert told == "precision: 0.500 [0.420, 0.540] of the accepted are valid by the audits, and tau promises 0.8"
    assert alarms(night("b", 0.9, 0.78), None, 40, 1.0, tau=0.8) == (), "chance may explain it"


def test_an_evaluation_set_that_cannot_be_read() -> None:
    (told,) = alarms(night("b", 0.9, None), None, 0, None, unread={"heldout"})
    assert told == "leak check: heldout cannot be read whole, so no draft is accepted"


def test_a_scorer_that_sees_other_things() -> None:
    (told,) = alarms(night("b", 0.7, None, lp=-0.5), night("a", 0.7, None), 40, 1.0)
    assert told.startswith("drift: the scorer's confidence moved by -")
