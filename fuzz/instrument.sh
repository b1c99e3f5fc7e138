#!/bin/sh
# Stands before rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER) and has it count which edges are taken,
# for the fuzzing engine. Dependencies stay as they are built for everything else.
case " $* " in
# Has no engine to link.
*" build_script_build "*) exec "$@" ;;
# Large, and not what takes the time.
*" lb_userspace "*) optimise=0 ;;
*) optimise=2 ;;
esac
exec "$@" -Copt-level=$optimise -Cdebug-assertions=on -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
