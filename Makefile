# The two commands of the README are `make demo` and `make test`. Both install what they need on a fresh Debian
# machine (see tests/setup); everything they make is below target/ and temporary folders.

TARGET := $(or $(CARGO_TARGET_DIR),target)
SHIM_TARGET := x86_64-unknown-linux-gnu
SHIM := $(TARGET)/$(SHIM_TARGET)/shim/iechor-shim
OCI := $(TARGET)/$(SHIM_TARGET)/shim/iechor-runtime
PROBE := $(TARGET)/$(SHIM_TARGET)/shim/runtime-probe
STATIC := RUSTFLAGS="-C target-feature=+crt-static"
# As a name for a rule and as a file that cargo keeps up to date by itself.
.PHONY: build release shim demo test lint tidy behaviour runtime-tests qemu qemu-systemd clean-up

# Debug builds of everything, the static programs beside the other binaries.
# The shim, too, can be made to die at named points (runtime/sys/src/failpoint.rs).
build: POINTS := CARGO_PROFILE_SHIM_DEBUG_ASSERTIONS=true
build: shim
	cargo build --workspace --exclude iechor-shim --exclude iechor-runtime --exclude runtime-probe
	install -m 755 $(SHIM) $(OCI) $(PROBE) $(TARGET)/debug/

release: shim
	cargo build --release -p iechord -p iechor
	install -m 755 $(SHIM) $(OCI) $(TARGET)/release/

# The shim, the OCI command line, and what tests run inside of containers that have no libraries. Static, because the shim
# is executed from a sealed copy in memory while the daemon may be replaced on disk, and because a static program starts
# sooner and maps a third of the memory of a dynamic one. The command line starts once or twice for each call, and reads
# nothing of a container's: it has a fixed place in memory, so that nothing has to be relocated (200 KiB of pages).
shim:
	@tests/setup build
	$(STATIC) $(POINTS) cargo build -p iechor-shim --target $(SHIM_TARGET) --profile shim
	$(STATIC) cargo build -p runtime-probe --target $(SHIM_TARGET) --profile shim
	$(STATIC) cargo rustc -p iechor-runtime --bin iechor-runtime --target $(SHIM_TARGET) --profile shim -- -C relocation-model=static -C force-unwind-tables=no $(OCI_FLAGS)

demo:
	@tests/setup demo
	@$(MAKE) --no-print-directory build
	@$(TARGET)/debug/demo

test:
	@tests/run

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

# One suite of the user's view: make behaviour SUITE=docker [TEST=part-of-a-name]
behaviour: build
	$(TARGET)/debug/behaviour $(SUITE) $(if $(TEST),-- $(TEST))

# An OCI runtime judged from outside: make runtime-tests SUITE=escapes [TEST=part-of-a-name] [RUNTIME=/path]
runtime-tests: build
	$(TARGET)/debug/runtime-tests $(if $(RUNTIME),--runtime $(RUNTIME)) $(SUITE) $(if $(TEST),-- $(TEST))

qemu: build
	@tests/setup qemu
	@tests/qemu/run

# The systemd cgroup driver, alone and in the daemon, against systemd as process 1 of an emulated machine.
qemu-systemd: build
	@tests/setup systemd
	cargo build -p runtime-systemd --example systemd-live
	@tests/qemu/systemd
	@tests/qemu/systemd $(addprefix --with $(TARGET)/debug/,iechord iechor iechor-shim) \
	  --with $(or $(shell command -v docker),$(TARGET)/test-tools/docker/usr/bin/docker) tests/qemu/daemon

# Removes what test programs that were killed have left on the machine.
clean-up:
	$(TARGET)/debug/reap
