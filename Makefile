# The commands of the house. `make help` lists them.

# PG=18 tests with another major version of PostgreSQL, from 14 to 18.
PG ?=
export PG

PROFILE = $(if $(CI),ci,default)
VENV = .venv/ready
NODE = tests/drivers/node/node_modules/ready

# Where `make install` copies to, and what.
PREFIX ?= /usr/local
DESTDIR ?=
BINARY ?= $(or $(CARGO_TARGET_DIR),target)/release/pgusher
# PGBOUNCER=1 installs the name of the program whose place it takes, too.
PGBOUNCER ?=
ZSH ?= share/zsh/site-functions

.PHONY: help test demo bench bench-setup install uninstall deb

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

test: ## Formatting, lints, and all tests; installs what they need
	@.ci/install linker pam postgres slapd prometheus browser pam-wrapper python node java nextest
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
	@.ci/install linker pam postgres valgrind perf
	@.ci/fetch-pgbouncer target/pgbouncer

install: $(BINARY) ## Copy the pooler below PREFIX (/usr/local), and DESTDIR; PGBOUNCER=1 for that name, too
	install -d $(DESTDIR)$(PREFIX)/bin $(addprefix $(DESTDIR)$(PREFIX)/,$(dir $(SHARED)))
	install -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/pgusher
	$(if $(PGBOUNCER),ln -sf pgusher $(DESTDIR)$(PREFIX)/bin/pgbouncer)
	install -m 644 packaging/pgusher.1 $(DESTDIR)$(PREFIX)/share/man/man1/pgusher.1
	install -m 644 packaging/completions/pgusher.bash \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pgusher
	install -m 644 packaging/completions/_pgusher $(DESTDIR)$(PREFIX)/$(ZSH)/_pgusher
	install -m 644 packaging/completions/pgusher.fish \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pgusher.fish
	install -m 644 README.md CHANGELOG.md docs/*.md $(DESTDIR)$(PREFIX)/share/doc/pgusher/
	install -m 644 $(wildcard etc/*.* etc/grafana/*) $(DESTDIR)$(PREFIX)/share/doc/pgusher/examples/

# What stands below PREFIX/share; the last two are directories of ours alone.
SHARED = share/man/man1/pgusher.1 share/bash-completion/completions/pgusher $(ZSH)/_pgusher \
    share/fish/vendor_completions.d/pgusher.fish share/doc/pgusher/ share/doc/pgusher/examples/

uninstall: ## Take away what install copied
	rm -rf $(addprefix $(DESTDIR)$(PREFIX)/,bin/pgusher $(SHARED))
	[ "$$(readlink $(DESTDIR)$(PREFIX)/bin/pgbouncer)" != pgusher ] || \
	    rm $(DESTDIR)$(PREFIX)/bin/pgbouncer

deb: $(BINARY) ## A Debian package of it, in target/debian
	packaging/deb $(BINARY) target/debian

$(BINARY):
	@.ci/install linker pam
	cargo build --release --locked --bin pgusher

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
