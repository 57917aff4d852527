# The image of avatar-setup: Debian's Python 3.13, a handful of packages and the configurator, nothing else.
#
# Builds with BuildKit and with the classic builder. A private CA or package mirror belongs into the
# base image (/etc/pip.conf, /etc/apt): the final stage gets only the files named below.

# --- base: Debian's Python and the tools of the build ------------------------------------------------
FROM debian:trixie-slim AS base
# No versions: Debian's archive keeps only the newest of a release, so a pinned one could soon not be installed.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get upgrade -y \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils ca-certificates dash python3 python3-pip \
 && rm -rf /var/lib/apt/lists/*

# --- root: the file set of the final stage, chosen by hand -------------------------------------------
FROM base AS root
ARG SOURCE_DATE_EPOCH=1767225600
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /root.d
# Merged /usr as in Debian, and the directories that any uid must be able to write to.
# /out too: a fresh named volume takes over its mode, so that --user works on it without a chown.
RUN mkdir -p etc/ssl/certs usr/bin usr/lib usr/lib64 proc sys dev run var/run root \
 && ln -s usr/bin bin && ln -s usr/lib lib && ln -s usr/lib64 lib64 \
 && mkdir -m 1777 tmp out \
 && chmod 0700 root \
 && printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' > etc/passwd \
 && printf 'root:x:0:\nnogroup:x:65534:\n' > etc/group \
 && printf 'passwd: files\ngroup: files\nhosts: files dns\n' > etc/nsswitch.conf \
 && cp /etc/os-release etc/os-release
# The interpreter and its standard library, without tests, GUIs, installers, worker processes, the comforts of
# an interactive prompt, and the bindings to libraries that nothing here needs. Jinja2 would load those of bz2 and
# lzma, through tempfile and shutil, which do without. Without _hashlib too: hashlib
# then uses the interpreter's own, verified implementations, and `import hashlib` does not load libcrypto,
# which costs a third of the interpreter's whole start.
RUN cp /usr/bin/python3.13 usr/bin/ && ln -s python3.13 usr/bin/python3 \
 && cp /usr/bin/dash usr/bin/ && ln -s dash usr/bin/sh \
 && cp -R /usr/lib/python3.13 usr/lib/ \
 && find usr/lib/python3.13 -name __pycache__ -prune -exec rm -rf {} + \
 && rm -rf usr/lib/python3.13/{curses,dbm,ensurepip,idlelib,lib2to3,pydoc_data,sqlite3,test,tkinter,turtle.py,turtledemo} \
        usr/lib/python3.13/{unittest,doctest.py,venv,wsgiref,xmlrpc,multiprocessing,_pyrepl,pydoc.py,bz2.py,lzma.py} \
        usr/lib/python3.13/{config-3.13*,dist-packages,EXTERNALLY-MANAGED,sitecustomize.py,LICENSE.txt} \
        usr/lib/python3.13/lib-dynload/{_test,_ctypes_test,_xxtestfuzz,xx,_codecs_,_multibytecodec}*.so \
        usr/lib/python3.13/lib-dynload/{_bz2,_curses,_dbm,_hashlib,_lzma,_sqlite3,_tkinter,readline}*.so
# The shared libraries that all of this is linked against, and UTF-8. Two more are needed by wheels. Without
# libpthread, which is empty in this glibc, PyYAML silently uses its slow Python parser; cryptography needs libgcc_s.
RUN { find usr/bin usr/lib/python3.13/lib-dynload -type f -exec ldd {} + 2>/dev/null \
        | grep -Eo '/[^ ]+\.so[^ ]*' | grep -v lib-dynload; \
      ldconfig -p | sed -En 's/.*=> (.*lib(pthread\.so\.0|gcc_s\.so\.1))$/\1/p'; } | sort -u > /tmp/libraries \
 && while read -r lib; do \
        target=".$(realpath "$(dirname "$lib")")/$(basename "$lib")"; \
        mkdir -p "$(dirname "$target")" && cp -L "$lib" "$target" || exit 1; \
    done < /tmp/libraries \
 && mkdir -p usr/lib/locale && cp -R /usr/lib/locale/C.utf8 usr/lib/locale/ \
 && cp /etc/ld.so.conf etc/ && cp -R /etc/ld.so.conf.d etc/ \
 && ldconfig -r . && rm -rf var/cache etc/ld.so.conf etc/ld.so.conf.d
# The public CA roots as Debian ships them. Not the bundle of /etc/ssl: that may hold a private CA of
# the machine this is built on.
RUN cat /usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt
# The records of the packages that the copied files belong to, where scanners look for them in an image without a
# package manager, and their licences. A file of no package fails the build.
RUN find usr etc/os-release -type f -printf '/%p\n' | xargs -d '\n' dpkg-query --search | cut -d: -f1 \
        | sort -u - <(echo ca-certificates) > /tmp/packages \
 && mkdir -p var/lib/dpkg/status.d \
 && while read -r package; do \
        install -D -m 0644 "/usr/share/doc/$package/copyright" "usr/share/doc/$package/copyright"; \
        dpkg-query --status "$package" > "var/lib/dpkg/status.d/$package"; \
    done < /tmp/packages
# Bytecode is never checked against its source: nothing here changes, and each stat costs time at every start.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /root.d -p / /root.d/usr/lib/python3.13 \
 && find . -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# --- app: the packages from the lock file, and the configurator --------------------------------------
FROM base AS app
ARG SOURCE_DATE_EPOCH=1767225600
WORKDIR /app.d
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-compile --root-user-action=ignore --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: \
        --target opt/avatar-setup/lib -r /tmp/requirements.txt \
 && rm -rf opt/avatar-setup/lib/bin
# cryptography needs only the compiled part of cffi; the rest, and its C parser, build bindings. Their records stay
# for scanners. Nobody debugs in the image: symbols are a fifth of cryptography's library and most of PyYAML's.
RUN rm -rf opt/avatar-setup/lib/cffi opt/avatar-setup/lib/pycparser \
 && find opt/avatar-setup/lib -name '*.so' -exec strip --strip-unneeded {} +
COPY LICENSE opt/avatar-setup/
COPY setup opt/avatar-setup/setup
COPY templates opt/avatar-setup/templates
COPY entrypoint.sh usr/local/bin/avatar-setup
RUN find . -name __pycache__ -prune -exec rm -rf {} + \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /app.d -p / \
        /app.d/opt/avatar-setup/lib /app.d/opt/avatar-setup/setup \
 && PYTHONPATH=opt/avatar-setup:opt/avatar-setup/lib python3 -c "\
import pathlib; from setup.deploy import planner, templates; \
top = 'opt/avatar-setup'; \
basis = planner.program_basis(top + '/templates', top + '/setup'); \
templates.Renderer(top + '/templates').bake(); \
[pathlib.Path(top, name, *planner.BAKED).write_text(basis[part]) \
 for name, part in (('setup', 'program'), ('templates', 'templates'))]" \
 && chmod -R u=rwX,go=rX . && chmod 0755 usr/local/bin/avatar-setup \
 && find . -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# --- the image ---------------------------------------------------------------------------------------
FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="avatar-setup" \
      org.opencontainers.image.description="Configures one Avatar deployment: asks for the settings, writes the deployment into /out and resumes where it stopped." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="avatar-setup contributors"
COPY --from=root /root.d/ /
COPY --from=app /app.d/ /
# NO_CPR: prompt_toolkit would ask the terminal for its cursor, and at `docker stop` wait a second for an answer
# that a detached terminal never gives.
ENV AVATAR_SETUP_IMAGE=1 \
    PROMPT_TOOLKIT_NO_CPR=1 \
    PATH=/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONPATH=/opt/avatar-setup:/opt/avatar-setup/lib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/avatar-setup"]
