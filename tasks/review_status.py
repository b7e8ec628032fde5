"""Where the reviews stand: who said how much, who agrees, what it says of the accepted, and what it calibrates."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from medgr2.infra.query import query
from medgr2.infra.workspace import Workspace
from medgr2.models.agreement import Agreement, agreements
from medgr2.models.calibration import FEATURES
from medgr2.models.precision import Precision
from medgr2.tasks.calibrate import calibrate
from medgr2.tasks.review import audited_precision, settled, standing_verdicts

_NEWEST = (
    "select scorer, reward, calibration, run from scores order by scored_at desc nulls last, score_id desc limit 1"
)
# What a night calibrates on: generated items, and none about an image that is held out.
_MEASURED = """
    select s.* from scores s join items i using (item_id) left join images g using (image_id)
    where s.scorer = '{scorer}' and coalesce(s.reward, '') = '{reward}'
      and i.origin = 'generated' and coalesce(g.split, 'train') = 'train'
      and s.item_id in (select item_id from reviews)
    qualify row_number() over (partition by s.item_id order by s.scored_at desc nulls last, s.score_id desc) = 1"""


class Refit(BaseModel):
    """The calibration that the verdicts allow, on the signals that the newest judgements rest on."""

    model_config = ConfigDict(frozen=True)

    audits: int
    """Settled items with all signals of that scorer."""
    calibration: str | None = None
    auroc: float | None = None
    ece: float | None = None
    why_not: str = ""

    def line(self) -> str:
        if self.calibration is None:
            return f"calibration: none can be fitted: {self.why_not}"
        return (
            f"calibration: {self.audits} audits allow {self.calibration[:12]}, "
            f"cross-validated AUROC {self.auroc:.3f}, ECE {self.ece:.3f}"
        )


class ReviewStatus(BaseModel):
    model_config = ConfigDict(frozen=True)

    verdicts: int
    items: int
    settled: int
    valid: int
    """Of the settled."""
    tied: int
    """Items of which as many say valid as not: they count for nothing."""
    taken_back: int
    """Earlier verdicts that their reviewers corrected; in none of the other numbers."""
    reviewers: dict[str, int]
    alike: tuple[str, ...]
    """Reviewers whose names differ by capitals and spaces only: one person would count twice."""
    agreements: tuple[Agreement, ...]
    precision: Precision | None
    in_force: str | None
    """The calibration of the newest judgements."""
    run: str | None
    """Of the newest judgements."""
    refit: Refit

    def lines(self) -> list[str]:
        if not self.verdicts:
            return ["no verdicts yet: nothing can be accepted before people have looked", self.refit.line()]
        who = ", ".join(f"{name} {n}" for name, n in self.reviewers.items())
        told = [
            f"{self.verdicts} verdicts on {self.items} items by {len(self.reviewers)} reviewer(s): {who}",
            f"{self.settled} items settled, {self.valid} of them valid"
            + (f"; {self.tied} tied, which count for nothing" if self.tied else ""),
        ]
        if self.taken_back:
            told.append(f"{self.taken_back} earlier verdicts were taken back by their reviewers, and count no longer")
        if self.alike:
            told.append(f"reviewers that may be one person: {', '.join(self.alike)}")
        told += [f"agreement: {pair.line()}" for pair in self.agreements] or [
            "agreement: no two reviewers share an item; give the same sheet to two"
        ]
        told.append(
            self.precision.line()
            if self.precision
            else "precision of the accepted: not known, no accepted item that was drawn at random is settled"
        )
        told.append(self.refit.line())
        if self.refit.audits < self.settled:
            told.append(
                f"  {self.settled - self.refit.audits} settled items lack signals of the newest scorer, or may not be "
                "learned from; the next refresh measures what may"
            )
        if self.in_force is None:
            told.append("in force: no calibration, so nothing was accepted")
        elif self.in_force == self.refit.calibration:
            told.append(f"in force: {self.in_force[:12]}, which these verdicts allow")
        else:
            told.append(f"in force: {self.in_force[:12]}, until the next refresh")
        return told


def review_status(workspace: Workspace) -> ReviewStatus:
    reviews = standing_verdicts(workspace.lake)
    judged, items = settled(reviews), {row["item_id"] for row in reviews}
    reviewers = Counter(str(row["reviewer"]) for row in reviews)
    newest = next(iter(query(workspace.settings.storage, _NEWEST).to_pylist()), None)
    return ReviewStatus(
        verdicts=len(reviews),
        items=len(items),
        settled=len(judged),
        valid=sum(judged.values()),
        tied=len(items) - len(judged),
        taken_back=workspace.lake.read("reviews", columns=["review_id"]).num_rows - len(reviews),
        reviewers=dict(sorted(reviewers.items())),
        alike=_alike(reviewers),
        agreements=agreements(reviews),
        precision=audited_precision(reviews),
        in_force=newest["calibration"] if newest else None,
        run=newest["run"] if newest else None,
        refit=_refit(workspace, reviews, newest["scorer"] if newest else None, newest["reward"] if newest else None),
    )


def _refit(workspace: Workspace, reviews: list[dict[str, Any]], scorer: str | None, reward: str | None) -> Refit:
    if scorer is None:
        return Refit(audits=0, why_not="nothing is scored yet")
    of = {name: (value or "").replace("'", "''") for name, value in (("scorer", scorer), ("reward", reward))}
    rows = query(workspace.settings.storage, _MEASURED.format(**of)).to_pylist()
    names = {signal for signal, _ in FEATURES.values()}
    try:
        signals = {row["item_id"]: {name: row.get(name) for name in names} for row in rows}
        found, at_hand, why = calibrate(reviews, signals, scorer=scorer, reward=reward)
    except ImportError:
        return Refit(audits=0, why_not="scikit-learn is missing: pip install 'medgr2[models]'")
    if found is None:
        return Refit(audits=len(at_hand), why_not=why)
    return Refit(
        audits=len(at_hand),
        calibration=found.id,
        auroc=found.cross_validated.auroc,
        ece=found.cross_validated.ece,
    )


def _alike(reviewers: Counter[str]) -> tuple[str, ...]:
    same: dict[str, list[str]] = defaultdict(list)
    for name in reviewers:
        same["".join(name.casefold().split())].append(name)
    return tuple(" = ".join(sorted(names)) for _, names in sorted(same.items()) if len(names) > 1)
