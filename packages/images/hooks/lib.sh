# Shared by the customize hooks; sourced, not run.
# Everything here happens in mmdebstrap's own namespace: as root of the machine, or, when an ordinary
# user builds, as root of a user namespace in which the tree's owners are mapped.

# in_chroot ROOT COMMAND…: never asks, never starts a service, always the C locale.
in_chroot() {
  _root=$1
  shift
  env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$_root" "$@"
}

# What differs between two builds of the same packages, or is of no use in a read-only layer.
remove_volatile_files() {
  rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb
  rm -rf "$1"/var/cache/ldconfig "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/var/log/*.log "$1"/var/log/apt
  rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/lib/systemd/random-seed "$1"/etc/resolv.conf "$1"/etc/hostname
  : >"$1"/etc/machine-id
  rm -rf "$1"/tmp/* "$1"/var/tmp/*
}

# make_erofs TREE IMAGE [OPTION…]: uncompressed (a guest under emulation pays more for unpacking than for reading),
# with fixed UUID and no inode time later than SOURCE_DATE_EPOCH, so that equal trees give equal images.
# The tree is seen through a plain bind mount: it leaves out the /proc and /sys that are mounted for the hooks. What is
# in /dev depends on who builds, and something is mounted over it in every guest.
make_erofs() {
  _tree=$1 _image=$2 _view=$HOB_OUT/view
  shift 2
  mkdir -p "$_view"
  mount --bind "$_tree" "$_view"
  find "$_view" -depth -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  mkfs.erofs --quiet --exclude-regex='^dev/' -U 00000000-0000-0000-0000-000000000000 -T "$SOURCE_DATE_EPOCH" "$@" "$_image" "$_view"
  umount "$_view"
  rmdir "$_view"
}
