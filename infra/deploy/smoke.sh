#!/bin/sh
# Builds the wheel, installs it alone (no extras) into a new environment, and asks it something from an empty folder.
set -eu
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$(pwd)

"$python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log"; exit 1; }
ls -l "$work/dist" | awk 'NR > 1 {printf "built %s: %.1f MB\n", $9, $5 / 1e6}'

"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" "$work"/dist/*.whl
mkdir "$work/empty" && cd "$work/empty"
medgr2="$work/env/bin/medgr2"
"$medgr2" --version
"$medgr2" --help >/dev/null
"$medgr2" config show >/dev/null
"$medgr2" versions
"$medgr2" query "select count(*) n from items"
"$work/env/bin/python" - <<'PY'
import importlib.util
from importlib.resources import files

heavy = [m for m in ("torch", "ray", "prefect", "transformers") if importlib.util.find_spec(m)]
assert not heavy, f"a data-only install brought {heavy}"
for name in ("ddp", "fsdp"):
    launch = files("medgr2.infra") / "deploy" / "accelerate" / f"{name}.yaml"
    assert launch.is_file(), f"how several processes train ({name}) is not in the wheel"
for name in ("base", "student"):
    weights = files("medgr2.models") / name / "model.safetensors"
    assert weights.is_file(), f"the weights of the {name} are not in the wheel"
    print(f"{name} weights in the wheel:", round(len(weights.read_bytes()) / 1e6, 2), "MB")
PY
du -sm "$work/env/lib" | awk '{print "data-only install:", $1, "MB"}'
