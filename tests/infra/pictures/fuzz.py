"""Damaged files by the thousand through the sandbox: every one must have an outcome, in time.

python tests/infra/pictures/fuzz.py --files 100000 --seed 1 --corpus ../shared/data
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from made_pictures import seeds

from medgr2.infra.pictures.reading import Reading
from medgr2.infra.pictures.sandbox import Sandbox
from medgr2.schemas.intake import ReadingRules

REASONS = {
    "empty",
    "not_an_image",
    "undecodable",
    "truncated",
    "timed_out",
    "killed_its_reader",
    "out_of_memory",
    "too_large",
    "too_many_pixels",
    "too_small",
    "extreme_shape",
    "blank",
    "animated",
    "several_pages",
    "wrong_colour",
    "unsupported_encoding",
    "not_a_picture",
    "no_pixels",
    "burned_in_text",
    "burned_in_text_not_checked",
}
"""'reader_failed' is not among them: it means a fault of ours."""
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LARGEST_SEED = 200_000


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three of the things that happen to files, and that people do to them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not out:
            break
        # Headers are short and matter most.
        at = rng.randrange(min(len(out), rng.choice((64, 1024, len(out)))))
        match rng.randrange(9):
            case 0:
                for _ in range(rng.choice((1, 4, 32))):
                    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:
                del out[at:]
            case 3:
                size = rng.choice((1, 2, 4))
                value = rng.choice(INTERESTING) & (256**size - 1)
                out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
            case 4:
                start = rng.randrange(max(1, len(other)))
                out[at : at + rng.choice((0, 16, 256))] = other[start : start + rng.choice((16, 256, 4096))]
            case 5:
                out[: rng.choice((8, 64, 512))] = other[: rng.choice((8, 64, 512))]
            case 6:
                del out[at : at + rng.choice((1, 16, 256))]
            case 7:
                out[at:at] = out[at : at + rng.choice((1, 16, 1024))]
            case 8:
                out[at:at] = rng.randbytes(rng.choice((1, 16, 256)))
    return bytes(out)


@dataclass
class Findings:
    outcomes: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    slowest: tuple[float, str] = (0.0, "")
    over_limit: list[str] = field(default_factory=list)
    restarts: int = 0

    @property
    def ok(self) -> bool:
        return not (self.unknown or self.unanswered or self.over_limit)


def corpus(folder: Path | None) -> dict[str, bytes]:
    found = seeds()
    for path in sorted(folder.rglob("*")) if folder else ():
        is_one = path.suffix in (".dcm", ".nii", ".gz") or (path.suffix == ".jpg" and path.stem.endswith("07"))
        if is_one and path.stat().st_size <= LARGEST_SEED:
            found[path.name] = path.read_bytes()
    return found


def fuzz(files: int, seed: int, folder: Path | None, rules: ReadingRules, report_every: int = 0) -> Findings:
    held = corpus(folder)
    names = list(held)
    findings, waiting, began = Findings(), dict[int, str](), time.monotonic()

    def made() -> Iterator[tuple[int, bytes, str]]:
        for number in range(files):
            rng = random.Random(f"{seed}/{number}")
            name, other = rng.choice(names), rng.choice(names)
            waiting[number] = f"file {number} of seed {seed}, from {name}"
            yield number, damaged(held[name], held[other], rng), "." + name.rpartition(".")[2]

    with Sandbox(rules, b"0123456789abcdef0123456789abcdef") as sandbox:
        last = time.monotonic()
        for number, answer in sandbox.read_many(made()):
            now = time.monotonic()
            what, took = waiting.pop(number), now - last
            last = now
            reason = "read" if isinstance(answer, Reading) else answer.reason
            findings.outcomes[reason] += 1
            if reason != "read" and reason not in REASONS:
                findings.unknown[f"{reason} {getattr(answer, 'detail', '')}: {what}"] += 1
            findings.slowest = max(findings.slowest, (took, f"{what}: {reason}"))
            # A death is tried twice, and a new process has to start each time.
            if took > rules.seconds + 1 + (2 * rules.seconds + 2 if reason == "killed_its_reader" else 0):
                findings.over_limit.append(f"{took:.1f} s, {what}: {reason}")
            if reason in ("killed_its_reader", "timed_out", "out_of_memory") and report_every:
                print(f"  {reason} {getattr(answer, 'detail', '')}: {what}, {took:.1f} s", flush=True)
            if report_every and (number + 1) % report_every == 0:
                print(f"{number + 1} files, {now - began:.0f} s, {dict(findings.outcomes)}", flush=True)
        findings.restarts = sandbox.restarts
    findings.unanswered = len(waiting)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a folder of .dcm, .nii, .gz and .jpg files to damage too")
    parser.add_argument("--seconds", type=float, default=5, help="limit of one file")
    args = parser.parse_args()
    rules = ReadingRules(seconds=args.seconds, memory_mb=2048, burned_in="off")
    began = time.monotonic()
    found = fuzz(args.files, args.seed, args.corpus, rules, report_every=10_000)
    seconds = time.monotonic() - began
    print(f"{sum(found.outcomes.values())} of {args.files} files have an outcome, {seconds:.0f} s")
    for reason, count in found.outcomes.most_common():
        print(f"  {count:8} {reason}")
    print(f"slowest: {found.slowest[0]:.2f} s, {found.slowest[1]}")
    print(f"readers that died: {found.restarts}; over the limit: {found.over_limit or 'none'}")
    print(f"outcomes outside the list: {dict(found.unknown) or 'none'}; without an outcome: {found.unanswered}")
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
