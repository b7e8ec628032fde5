# Two commands do everything: `make demo` and `make test`. Both make the environment first, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export OMP_NUM_THREADS = 1
export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_TELEMETRY = 1
export RAY_USAGE_STATS_ENABLED = 0
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DO_NOT_TRACK = 1

.PHONY: demo test lint types smoke base-weights bench bench-peers fuzz vllm-env clean-demo

demo: $(READY)
	@$(BIN)/medgr2 loop --cycles 2 --seed 7

# Two processes share the tests, as tests/shares.py says; `make test PROCESSES=0` runs them in one.
PROCESSES ?= 2

test: $(READY)
	@$(BIN)/python -m pytest -n $(PROCESSES)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# A type checker cannot follow an editable install of a namespace package: it reads the same files through links.
types: $(READY)
	@mkdir -p build/types/medgr2
	@for d in schemas infra models tasks flows; do ln -sfn ../../../$$d build/types/medgr2/$$d; done
	@ln -sfn ../../phantoms build/types/medgr2_phantoms
	@$(BIN)/mypy -p medgr2 -p medgr2_phantoms

# The wheel, alone in a new environment and an empty folder, has to answer.
smoke: $(READY)
	@PYTHON=$(BIN)/python sh infra/deploy/smoke.sh

base-weights: $(READY)
	@$(BIN)/python -m medgr2_phantoms.base --out models/base
	@$(BIN)/python -m medgr2_phantoms.base --student --out models/student

bench: $(READY)
	@for b in benchmarks/*.py; do $(BIN)/python $$b || exit 1; done
	@$(BIN)/python benchmarks/generation/run.py --peers

# Other programs that generate, each in an environment of its own, to be measured beside ours.
bench-peers:
	@PYTHON=$(PYTHON) sh benchmarks/generation/peers/environments.sh

# 100,000 damaged files through the reading process; about ten minutes.
fuzz: $(READY)
	@$(BIN)/python tests/infra/pictures/fuzz.py --files 100000 --seed 1

# vLLM and Prefect need different versions of fastapi: vLLM lives in an environment of its own.
vllm-env: .venv-vllm/.ready

.venv-vllm/.ready: infra/deploy/vllm-environment.sh infra/deploy/vllm-constraints.txt pyproject.toml
	@PYTHON=$(PYTHON) sh infra/deploy/vllm-environment.sh .venv-vllm
	@touch $@

clean-demo:
	rm -rf .medgr2 .medgr2-embedded

$(READY): pyproject.toml constraints.txt
	@echo "making the environment in $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $(READY)
