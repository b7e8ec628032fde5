"""What is asked twice, what is lost, and what a night asks that has little to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pictures
from programs import Program, emptied, ours, run, run_and_kill, title
from row_worker import RECIPE
from serving import Served, serving
from speed import IN_FLIGHT

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.tasks.stage import StageRequest, run_stage

ROWS = 2000
LATENCY_MS = 200
MILLION = 1_000_000
AT_ONCE = 100_000
MIX = ("--http-400", "0.01", "--http-429", "0.025", "--http-503", "0.025", "--truncated-json", "0.01", "--stubborn")


def kills(programs: Sequence[Program], folder: Path) -> None:
    title(
        "SIGKILL of the program and all its descendants, then the same command again: "
        f"{ROWS} text rows, {IN_FLIGHT} in flight"
    )
    with serving(folder, "--latency-ms", str(LATENCY_MS)) as served:
        for one in programs:
            for percent in (30, 50, 90) if one.name == "ours" else (50,):
                print(f"  {one.name:<12} at {percent} %: {_killed(one, served, percent, folder)}", flush=True)


def _killed(one: Program, served: Served, percent: int, folder: Path) -> str:
    served.reset()
    command = one.command(served, emptied(folder / "killed"), ROWS, IN_FLIGHT)
    if not run_and_kill(command, folder / "logs", lambda: served.sold().total() >= ROWS * percent // 100):
        return "ended before it could be killed"
    time.sleep(2 * LATENCY_MS / 1000)
    before = served.sold().total()
    used = run(command, folder / "logs")
    if used.status:
        return f"does not go on: status {used.status} after {used.wall:.0f} s"
    sold = served.sold()
    again, kept = sold.total() - len(sold), used.told.get("kept", 0)
    more = ""
    if one.name == "ours":
        rows = _rows_held(folder / "killed")
        more = f", {rows - len(_keys(folder / 'killed'))} duplicated"
    return f"{before} sold, then {again} bought again ({again / ROWS:.1%} of all), {ROWS - kept} lost{more}"


def _rows_held(root: Path) -> int:
    from medgr2.infra.journal_segment import decode

    store = FolderStore(root)
    return sum(decode(info.key.rpartition("/")[2], store.get(info.key)).num_rows for info in store.list("journal/"))


def _keys(root: Path) -> set[str]:
    return set(Journal(FolderStore(root), RECIPE.stage).outcomes())


def nights(programs: Sequence[Program], folder: Path) -> None:
    title(
        f"Nights with little to do, after one of {ROWS} text rows: calls, rows kept of those asked, and stale rows, "
        "which answer a text that was replaced"
    )
    with serving(folder, "--latency-ms", "20") as served:
        for one in programs:
            root = emptied(folder / "nights")
            first = run(one.command(served, root, ROWS, IN_FLIGHT), folder / "logs")
            if first.status:
                print(f"  {one.name:<12} the first night failed: status {first.status}")
                continue
            told = []
            for what, rows, more in (
                ("same again", ROWS, []),
                ("10 more", ROWS + 10, []),
                ("10 edited", ROWS + 10, one.edited(10)),
            ):
                served.reset()
                used = run(one.command(served, root, rows, IN_FLIGHT, *more), folder / "logs")
                failed = f" (status {used.status})" if used.status else ""
                kept, stale = used.told.get("kept", 0), used.told.get("stale", 0)
                told.append(f"{what}: {served.sold().total()} calls, {kept} of {rows} kept, {stale} stale{failed}")
            print(f"  {one.name:<12} {'; '.join(told)}", flush=True)


def refusals(programs: Sequence[Program], folder: Path) -> None:
    title(f"One row in a hundred is refused with HTTP 400: {ROWS} text rows")
    with serving(folder, "--latency-ms", "20", "--http-400", "0.01") as served:
        for one in programs:
            served.reset()
            used = run(one.command(served, emptied(folder / "refused"), ROWS, IN_FLIGHT), folder / "logs")
            good, kept = served.stats()["sold"], used.told.get("kept", 0)
            reasons = f", {used.told['reasons']}" if used.told.get("reasons") else ""
            print(f"  {one.name:<12} status {used.status}, {kept} rows kept; {good} were answered{reasons}", flush=True)


def mix(folder: Path) -> None:
    bad = ROWS // 100
    title(
        f"All at once: {ROWS} pictures, {bad} of them damaged; 1 % HTTP 400, 5 % 429 or 503, 1 % of replies cut short "
        "however often they are to be mended"
    )
    root, listed = emptied(folder / "mixed"), folder / "images.txt"
    images = pictures.fill(root, ROWS, 5000)
    pictures.damage(root, images[:bad])
    listed.write_text("\n".join(images))
    with serving(folder, "--latency-ms", str(LATENCY_MS), *MIX) as served:
        used = run(ours().command(served, root, ROWS, IN_FLIGHT, "--images", str(listed)), folder / "logs")
        met = served.stats()["faults"]
    print(f"  status {used.status}; {used.told}")
    print(f"  faults that the server dealt out, each time counted: {met}")


def million(folder: Path) -> None:
    title(f"A night of 1000 new text rows beside {MILLION} finished ones")
    root = emptied(folder / "million")
    settings = Settings(storage=StorageSettings(root=str(root)), compute=ComputeSettings(mode="inline"))
    request = StageRequest(recipe=RECIPE, worker="row_worker:Finished", run="before", batch_size=4096)
    for first in range(0, MILLION, AT_ONCE):
        cells = [RECIPE.cell(inputs={"text": f"Picture {n}."}) for n in range(first, first + AT_ONCE)]
        run_stage(request, cells, settings=settings, store=FolderStore(root), on_plan=lambda _: None)
    with serving(folder, "--latency-ms", str(LATENCY_MS)) as served:
        command = ours().command(served, root, 1000, IN_FLIGHT, "--finished", str(MILLION))
        for _ in range(3):
            copy = emptied(folder / "copy")
            journal = FolderStore(root)
            for info in journal.list("journal/"):
                FolderStore(copy).create(info.key, journal.get(info.key))
            served.reset()
            began = time.monotonic()
            command[3] = str(copy)
            killed = run_and_kill(command, folder / "logs", lambda: served.stats()["requests"] > 0)
            first_call = time.monotonic() - began
            used = run(command, folder / "logs")
            assert killed, used
            told = used.told
            print(
                f"  {first_call:.1f} s from the start of the process to its first call (its cells were made after "
                f"{told['cells_after']:.1f} s, the plan after {told['plan_after']:.1f} s); then killed, and again: "
                f"{told['new']} new, {told['reused']} reused, peak {used.peak_mb:.0f} MB, "
                f"{served.stats()['sold_again']} bought again",
                flush=True,
            )
