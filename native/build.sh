#!/bin/sh
# Builds one program: build.sh OUT [hob-helper|hob-boot|hob-idle|hob-tsc|hob-disk-meter|sprite-env]. The same sources and compiler give the same bytes.
# CC and CFLAGS may be set, for a cross compiler or a build with sanitizers.
set -eu
case ${2:-hob-helper} in
  hob-helper) sources= ;;
  hob-boot | hob-idle | hob-tsc | hob-disk-meter) sources=$2.c ;;
  sprite-env) sources=$2/*.c ;;
  *) set -- ;;
esac
[ $# -ge 1 ] || { echo "usage: build.sh OUT [hob-helper|hob-boot|hob-idle|hob-tsc|hob-disk-meter|sprite-env]" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")"
# The helper is every file that is not a program of its own, in the same order everywhere.
[ -n "$sources" ] || for file in $(LC_ALL=C ls ./*.c); do
  case $file in ./hob-boot.c | ./hob-idle.c | ./hob-tsc.c | ./hob-disk-meter.c) ;; *) sources="$sources $file" ;; esac
done
mode=${CFLAGS:--static -O2 -s}
export LC_ALL=C
# shellcheck disable=SC2086
exec ${CC:-gcc} $mode -std=gnu17 -Wall -Wextra -Werror -fno-ident -Wl,--build-id=none -o "$out" $sources
