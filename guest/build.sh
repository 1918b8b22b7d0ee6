#!/usr/bin/env bash
# Builds the embedded guest with Debian's cross compiler, the same bytes every time.
# usage: build.sh [OUT [ELF]]      OUT defaults to dormouse-guest.bin beside this script; ELF, with symbols, is for gdb
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/dormouse-guest.bin}
cross=${CROSS_COMPILE:-riscv64-linux-gnu-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C SOURCE_DATE_EPOCH=0
cp "$here"/head.S "$here"/guest.[ch] "$here"/memory.c "$here"/guest.ld "$work"/
(
  cd "$work"
  flags=(-march=rv64imac_zicsr_zifencei -mabi=lp64 -mcmodel=medany -std=gnu11 -Os -Wall -Wextra -Werror
         -ffreestanding -fno-builtin -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables
         -fno-unwind-tables -fno-ident -fno-tree-loop-distribute-patterns -nostdlib -static)
  "${cross}gcc" "${flags[@]}" -no-pie -Wl,--build-id=none,--no-warn-rwx-segments,-T,guest.ld -o guest.elf head.S guest.c memory.c
  "${cross}objcopy" -O binary guest.elf guest.bin
)
install -m 644 "$work/guest.bin" "$out"
if [ -n "${2:-}" ]; then install -m 644 "$work/guest.elf" "$2"; fi
