#!/bin/sh
# mmdebstrap customize hook: turns the tree into the image of the VM's root namespace and takes the kernel out of it.
# Environment: HOB_OUT (folder for the results), HOB_HOOKS (this folder), HOB_NODE (the Node.js binary), SOURCE_DATE_EPOCH.
set -eu
root=$1
. "$HOB_HOOKS/lib.sh"

# The kernel is unpacked, not installed: its maintainer scripts would build an initramfs nobody uses.
# linux-image-cloud-amd64 is a meta package; the real one is its only linux-image-* dependency.
arch=$(in_chroot "$root" dpkg --print-architecture)
kernel=$(in_chroot "$root" apt-cache depends "linux-image-cloud-$arch" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo "no cloud kernel package for $arch" >&2; exit 1; }
# The download runs as apt's own unprivileged user, which may not write to /tmp of every set-up.
in_chroot "$root" sh -c 'cd /tmp && apt-get -o APT::Sandbox::User=root download "$1" >/dev/null' sh "$kernel"
in_chroot "$root" sh -c 'mkdir /tmp/kernel && dpkg-deb -x /tmp/linux-image-*.deb /tmp/kernel'
cp "$root"/tmp/kernel/boot/vmlinuz-* "$HOB_OUT/vmlinuz"
printf '%s\n' "$kernel" >"$HOB_OUT/kernel-package"

modules=$(echo "$root"/tmp/kernel/usr/lib/modules/* "$root"/tmp/kernel/lib/modules/*)
for directory in $modules; do [ -d "$directory" ] && break; done
release=$(basename "$directory")
mkdir -p "$root/usr/lib/modules"
mv "$directory" "$root/usr/lib/modules/$release"
# A microVM has no PCI bus: drivers for real hardware can never bind.
(cd "$root/usr/lib/modules/$release/kernel" && rm -rf drivers/gpu drivers/net/ethernet drivers/infiniband drivers/scsi drivers/ata drivers/usb drivers/hid drivers/input drivers/video drivers/nvme drivers/hv drivers/xen sound)
# Unpacked once here, not at every boot of every guest.
find "$root/usr/lib/modules/$release" -name '*.ko.xz' -exec xz --decompress {} +
in_chroot "$root" depmod "$release"
mkdir -p "$HOB_OUT/modules"
cp -a "$root/usr/lib/modules/$release" "$HOB_OUT/modules/"

install -m 0755 "$HOB_NODE" "$root/usr/local/bin/node"
in_chroot "$root" /usr/local/bin/node --version >/dev/null

# Folders that exist only to be mounted over.
mkdir -p "$root/pilot" "$root/volume" "$root/layers/base" "$root/layers/platform" "$root/layers/languages"
dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package} ${Version}\n' >"$HOB_OUT/packages"
remove_volatile_files "$root"
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/usr/share/info "$root"/usr/share/lintian "$root"/var/cache/debconf
# The root is read-only: where programs expect to write, the tmpfs of /run serves.
ln -sfn /run/resolv.conf "$root/etc/resolv.conf"
printf 'pilot\n' >"$root/etc/hostname"
make_erofs "$root" "$HOB_OUT/root.erofs" --all-root
