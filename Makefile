# Everything that is done to this repository. Each target installs what it needs; a machine with make, git and Go will do.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

# Released binaries are static and free of the paths of the machine that built them. Stamping the commit is off since it
# fails where the clone belongs to somebody else, as in many CI containers.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false

# The cheap tier of linters: go vet, staticcheck and gofumpt, 30 s from an empty cache. golangci-lint wraps the first two
# but takes more than two minutes to build, and 3,000 modules, for checks that verify and the reviews make.
TOOL := go tool -modfile=.ci/tools.mod
HELPERS := ./.ci/protogen ./.ci/verify
PACKAGES := ./...
TORTURE := ./core/coretest/torture
# A module of its own, which ./... does not reach.
EXAMPLE := sdk/examples/stack

# The Debian packages that a target needs, see deps.
PACKAGED := postgresql gcc libc6-dev

.PHONY: help deps run test build generate verify lint format race contract crash attacks torture planted bench soak

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what is missing (PostgreSQL, gcc), or say how to
	@.ci/deps $(PACKAGED)

run: PACKAGED := postgresql
run: deps build ## Build and start PiCloud here, with a database of its own
	@exec bin/picloud dev

test: deps lint verify race contract crash ## Run all checks and tests, as CI does

build: ## Build bin/picloud
	go build -trimpath -ldflags '-s -w' -o bin/picloud ./cmd/picloud

generate: ## Write all generated files anew
	go run -modfile=.ci/tools.mod ./.ci/protogen
	go generate $(PACKAGES)
	go run ./cmd/picloud openapi > openapi/openapi.yaml.new
	mv openapi/openapi.yaml.new openapi/openapi.yaml

verify: ## Check that generated files are current and the house rules are kept
	go run ./.ci/verify

lint: ## Check the form of the source and look for likely mistakes
	@form=$$($(TOOL) gofumpt -l . .ci); \
	if [ -n "$$form" ]; then echo "not formatted, see make format:"; echo "$$form"; exit 1; fi
	go vet $(PACKAGES)
	go vet -modfile=.ci/tools.mod $(HELPERS)
	cd $(EXAMPLE) && go vet ./...
	$(TOOL) staticcheck $(PACKAGES)

format: ## Format the source
	$(TOOL) gofumpt -w . .ci

race: deps ## Run the tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list $(PACKAGES) | grep -v /$(notdir $(TORTURE))$$)

contract: ## Check that compiled scripts, and those of the example of an engine, see what others see
	go test -timeout 10m -run TestContract ./plugins/engine/wasm
	cd $(EXAMPLE) && go test -timeout 5m ./...

# The machine is theirs alone: what they check is also how soon things go on.
crash: deps ## Kill nodes at every point of the line, and hurt them for half a minute
	go test -timeout 5m $(TORTURE)

# They are not made under the race detector, and need a machine that is theirs alone: limits of memory are kept by looking in time.
attacks: deps ## Attack from scripts in every language, then ROUNDS (1000) times several at once, which SEED (the clock) draws
	go test -timeout 0 -v -run TestAttacks ./cmd/picloud -attacks.measure \
		-attacks.rounds=$(or $(ROUNDS),1000) -attacks.seed=$(or $(SEED),0)

torture: deps ## Hurt nodes for TIME (30m) in the ways that SEED (the clock) comes up with
	go test -timeout 0 -v -run TestTorture $(TORTURE) \
		-torture.time=$(or $(TIME),30m) -torture.seed=$(or $(SEED),0) -torture.strict

planted: deps ## Check that the torture finds defects, by planting them
	go test -timeout 60m -v -tags planted -run TestPlanted $(TORTURE) -torture.planted

bench: PACKAGED := postgresql wrk
bench: deps build ## Measure throughput, latency, fairness and costs on this machine, beside the programs in the folder PEERS
	go run ./core/coretest/bench -picloud bin/picloud $(if $(PEERS),-peers $(PEERS))

soak: PACKAGED := postgresql wrk
soak: deps build ## Put a steady load on a server for TIME (30m): RATE calls a second, or as many as there can be
	go run ./core/coretest/bench -picloud bin/picloud -only soak -soak $(or $(TIME),30m) -rate $(or $(RATE),0)
