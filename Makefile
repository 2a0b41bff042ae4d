# `make run` starts the demo, `make test` passes all tests; both set up what they need first.
.PHONY: run test lint docs bench soak clean

run: .ready/run
	.venv/bin/statestream demo

test: .ready/test
	.venv/bin/pytest -m "not soak" -n 3 --dist worksteal

lint: .ready/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .ready/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

bench: .ready/bench
	.venv/bin/python -m tests.benchmarks

soak: .ready/test
	.venv/bin/pytest -m soak --timeout 3600 -s

clean:
	rm -rf .venv .ready site tests/node/node_modules tests/node/ai6/node_modules tests/node/ai7/node_modules tests/benchmarks/peers/node_modules

.ready/run: pyproject.toml .ci/setup
	.ci/setup run

.ready/test: pyproject.toml .ci/setup tests/node/package.json tests/node/ai6/package.json tests/node/ai7/package.json
	.ci/setup test

.ready/docs: pyproject.toml .ci/setup
	.ci/setup docs

.ready/bench: pyproject.toml .ci/setup tests/node/package.json tests/benchmarks/peers/package.json
	.ci/setup bench
