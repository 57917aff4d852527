# Uploads and the branding share a folder: the volume gets links to the mounted files.
uploads=/data/media/public
mkdir -p "$uploads" || echo "without logo: $uploads cannot be made" >&2
for name in favicon.ico brand_logo.png; do
  [ -e "$uploads/$name" ] || ln -sf "/media/public/$name" "$uploads/$name" || :
done
