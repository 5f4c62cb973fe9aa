#!/bin/sh
# mmdebstrap customize hook: turns the tree into the read-only layers of the user's system.
# Environment: HOB_OUT, HOB_HOOKS, HOB_NODE, HOB_NPM (folder of the npm package), HOB_LANGUAGES (package names),
# SOURCE_DATE_EPOCH.
set -eu
root=$1
. "$HOB_HOOKS/lib.sh"
installed() { dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${binary:Package}\n' | sort; }

# Without a file of its own zsh asks a new user questions.
printf 'autoload -Uz compinit && compinit\nPROMPT="%%n@%%m:%%~%%# "\n' >"$root/etc/skel/.zshrc"
in_chroot "$root" useradd --create-home --uid 1000 --user-group --groups sudo,adm --shell /bin/zsh sprite
in_chroot "$root" usermod --add-subuids 100000-165535 --add-subgids 100000-165535 sprite
in_chroot "$root" usermod --add-subuids 200000-1248575 --add-subgids 200000-1248575 root

# Layer "languages" = the files of every package that only the language list brings in. The package database stays
# in the base layer: a file moves, nothing is overwritten, so the layers need no whiteouts.
installed >"$HOB_OUT/base-packages"
# shellcheck disable=SC2086
in_chroot "$root" apt-get install --yes --no-install-recommends $HOB_LANGUAGES >/dev/null
installed >"$HOB_OUT/all-packages"
languages=$HOB_OUT/languages
mkdir -p "$languages"
comm -13 "$HOB_OUT/base-packages" "$HOB_OUT/all-packages" | while read -r package; do
  list=$root/var/lib/dpkg/info/$package.list
  [ -e "$list" ] || list=$root/var/lib/dpkg/info/${package%%:*}.list
  sed -n 's/^\///p' "$list"
done | while read -r file; do
  # Folders stay in the base too, with their owner and mode; dpkg diverts nothing here.
  { [ -e "$root/$file" ] || [ -L "$root/$file" ]; } || continue
  { [ -d "$root/$file" ] && [ ! -L "$root/$file" ]; } || printf '%s\0' "$file"
done >"$HOB_OUT/language-files"
(cd "$root" && tar --create --no-recursion --null --files-from="$HOB_OUT/language-files" --xattrs --file=-) | (cd "$languages" && tar --extract --preserve-permissions --xattrs --file=-)
(cd "$root" && xargs -0 rm -f <"$HOB_OUT/language-files")
rm "$HOB_OUT/language-files" "$HOB_OUT/base-packages" "$HOB_OUT/all-packages"
# tar made the parent folders anew; give them the owner and mode that they have in the base.
(cd "$languages" && find . -type d -print) | while read -r folder; do
  [ -d "$root/$folder" ] || continue
  chmod --reference="$root/$folder" "$languages/$folder"
  chown --reference="$root/$folder" "$languages/$folder"
done

node=$languages/.sprite/languages/node
mkdir -p "$node/bin" "$node/lib/node_modules"
install -m 0755 "$HOB_NODE" "$node/bin/node"
cp -a "$HOB_NPM" "$node/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$node/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$node/bin/npx"
mkdir -p "$languages/.sprite/bin"
for program in node npm npx; do ln -s "../languages/node/bin/$program" "$languages/.sprite/bin/$program"; done
chown -R 0:0 "$languages/.sprite"

remove_volatile_files "$root"
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/info "$root"/usr/share/lintian "$languages"/usr/share/doc "$languages"/usr/share/info
ln -sfn /proc/mounts "$root/etc/mtab"
printf 'nameserver 10.0.0.2\nnameserver fdf::2\noptions edns0\n' >"$root/etc/resolv.conf"
printf 'sprite\n' >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.0.1 sprite\nfdf::1 sprite\n' >"$root/etc/hosts"
# Folders that the pilot mounts over.
install -D -m 0755 "$root/usr/bin/tini-static" "$root/.pilot/tini"
mkdir -p "$root/var/lib/docker" "$root/var/lib/containers" "$root/home/sprite/.local/share/containers" "$root/.sprite" "$root/.pilot"
chown -R 1000:1000 "$root/home/sprite"
dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package} ${Version}\n' >"$HOB_OUT/packages"
make_erofs "$root" "$HOB_OUT/base.erofs"
make_erofs "$languages" "$HOB_OUT/languages.erofs"
rm -rf "$languages"
