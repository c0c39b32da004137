# The commands of the house. `make help` lists them.

# PG=18 tests with another major version of PostgreSQL, from 14 to 18.
PG ?=
export PG

PROFILE = $(if $(CI),ci,default)
VENV = .venv/ready
NODE = tests/drivers/node/node_modules/ready

.PHONY: help test demo bench bench-setup

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

test: ## Formatting, lints, and all tests; installs what they need
	@.ci/install linker pam postgres slapd pam-wrapper python node java nextest
	@[ "$${PG:-15}" = 15 ] || .ci/fetch-postgres "$$PG" "target/postgres/$$PG"
	@.ci/fetch-pgbouncer target/pgbouncer
	@$(MAKE) --no-print-directory $(VENV) $(NODE)
	cargo fmt --all --check
	cargo lint
	cargo nextest run --workspace --profile $(PROFILE)

demo: ## Hundreds of clients over 25 seats, to watch; installs what it needs
	@.ci/install linker pam postgres
	cargo build --release -p pgusher -p pgusher-testkit --bin pgusher --bin demo
	@cargo run --quiet --release -p pgusher-testkit --bin demo

bench: bench-setup ## pgusher beside PgBouncer: a table of ratios; BENCH="--only rows" for one row
	cargo build --release --bin pgusher
	cargo run --release -p pgusher-benches --bin pgusher-bench -- $(BENCH)

bench-setup: ## Fetch what the benchmark compares with
	@.ci/install linker pam postgres valgrind
	@.ci/fetch-pgbouncer target/pgbouncer

# Drivers in Python, for the tests that let real clients talk.
$(VENV): tests/drivers/requirements.txt
	python3 -m venv --clear .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --timeout 60 --retries 5 --no-deps -r $<
	.venv/bin/pip check --quiet --disable-pip-version-check
	@cp $< $@

# And in JavaScript.
$(NODE): tests/drivers/node/package-lock.json tests/drivers/node/package.json
	npm ci --prefix tests/drivers/node --ignore-scripts --no-audit --no-fund --fetch-retries 5
	@cp $< $@
