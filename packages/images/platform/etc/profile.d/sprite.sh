# Read by the login shells of the sprite.
for sprite_file in /.sprite/etc/profile.d/*.sh; do
  [ ! -r "$sprite_file" ] || . "$sprite_file"
done
unset sprite_file
