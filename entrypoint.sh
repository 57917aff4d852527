#!/bin/sh
# Run the configurator without a command, or with a flag first; run any other command as it was given. The entry
# points of the postgres and nginx images do the same. A word that is no command, such as `check`, goes to the
# configurator too, which says which flag is meant.
#
# `exec` throughout: the command becomes PID 1 and gets the signals of `docker stop` itself.
set -eu

case "${1--}" in
    -*) ;;
    *) ! command -v "$1" >/dev/null || exec "$@" ;;
esac
# -P: not the working directory, which may be a volume, but only the image's own modules. -S, and the path instead of
# -m: `site` and `runpy` do nothing here, and cost a tenth of a short run.
exec python3 -P -S /opt/avatar-setup/setup/__main__.py --output-dir /out "$@"
