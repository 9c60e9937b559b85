# Two commands do all set-up: `make demo` and `make test`. Each says on one line what it is doing.

PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-all lint bench fuzz-checkers soak track-record plant lock docs wheel clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup:
	@.ci/setup

demo: setup  ## run a real etcd cluster through partitions, crashes and pauses; about a minute
	@.venv/bin/splitbrain run --system etcd --workload register --faults partition,kill,pause \
	  --nodes 3 --time 30s --concurrency 10 && .venv/bin/splitbrain open latest

test: setup  ## everything that belongs to a change; prints the seconds per folder
	@.venv/bin/ruff check . && .venv/bin/ruff format --check -q . && .venv/bin/mypy && .venv/bin/lint-imports
	@cd checkers/engine && PATH="$$PATH:$$(cd ../.. && .venv/bin/python -m harness.core.golang)" sh -c 'test -z "$$(gofmt -l .)" && go vet ./... && go test ./...'
	@$(PY) -m pytest -q -m "not slow" -n 2 --dist loadfile

test-all: setup  ## the slow suites as well
	@$(PY) -m pytest

lint: setup  ## format and check
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix . && .venv/bin/mypy && .venv/bin/lint-imports

bench: setup  ## every benchmark, a table each
	@for b in scheduler cluster_start partition packet clock checking ssh serve pytest_plugin report campaign; do $(PY) -m benchmarks.$$b || exit 1; done

fuzz-checkers: setup  ## a million random histories: engines, Porcupine and brute force must agree
	@cd checkers/engine && PATH="$$PATH:$$(cd ../.. && .venv/bin/python -m harness.core.golang)" \
	  SPLITBRAIN_FUZZ=$(or $(COUNT),1000000) go test -run Differential -timeout 0 -v .
	@SPLITBRAIN_FUZZ_MODELS=$$(( $(or $(COUNT),1000000) / 100 )) SPLITBRAIN_FUZZ_SEED=$$(date +%s) $(PY) -m pytest -q tests/checkers/test_models.py

soak: setup  ## every workload and positive control, many seeds; resumable; KINDS=lock,set-docker:3 SEEDS=5
	@$(PY) -m benchmarks.soak $(if $(KINDS),--kinds $(KINDS)) $(if $(SEEDS),--seeds $(SEEDS))

track-record: setup  ## find every known bug again, and never its clean twin; docs/track-record.md; resumable; REPEAT=30
	@.venv/bin/splitbrain bugs --all --repeat $(or $(REPEAT),10) --write docs/track-record.md

plant: setup  ## plant a stale read into each recorded history of the soak: all must be found
	@$(PY) -m benchmarks.plant

docs: setup  ## measure the providers; write docs/providers.md and the table of docs/faults.md anew
	@$(PY) -m benchmarks.faults --write docs/faults.md
	@$(PY) -m benchmarks.providers --write docs/providers.md

wheel: setup  ## the wheel, with the engine inside, into dist/
	@$(PY) -m build --wheel --no-isolation

lock: setup  ## write requirements.txt anew from what is installed
	@.venv/bin/pip freeze --exclude-editable | grep -v '^splitbrain' > requirements.txt

clean:  ## remove what set-up made here; the cache of built systems stays
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache
