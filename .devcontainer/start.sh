#!/usr/bin/env bash
# Starts the server in the background and, in a GitHub Codespace, makes its port public: a port's visibility cannot be
# set in devcontainer.json, and it is private again after every restart.
set -euo pipefail
cd "$(dirname "$0")/.."

port=8000
state=${XDG_STATE_HOME:-$HOME/.local/state}/codex-server
log=$state/server.log
mkdir -p -m 700 "$state"

if [[ -n ${CODESPACE_NAME:-} ]]; then
  domain=${GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN:-app.github.dev}
  export CODEX_PUBLIC_URL=${CODEX_PUBLIC_URL:-https://$CODESPACE_NAME-$port.$domain}
fi

# A dev container is itself a container: where it forbids namespaces, the level `confined` is accepted here, and the
# start message and /health show it.
export CODEX_MIN_ISOLATION=${CODEX_MIN_ISOLATION:-confined}

(umask 077 && : >"$log")
setsid nohup make serve ARGS="--port $port" >>"$log" 2>&1 </dev/null &

for _ in $(seq 120); do
  if curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz"; then ready=yes; break; fi
  if ! kill -0 "$!" 2>/dev/null; then break; fi
  sleep 1
done
cat "$log"
# The first token was shown just now; only its hash may stay on the disk. The server goes on appending to the same file.
kept=$(sed -E 's/codex_[A-Za-z0-9_-]{43}/(the token, shown once)/g' "$log")
printf '%s\n' "$kept" >"$log"
if [[ -z ${ready:-} ]]; then
  echo "The server does not answer; the lines above say why. Start it by hand with: make serve" >&2
  exit 1
fi

if [[ -n ${CODESPACE_NAME:-} ]]; then
  if command -v gh >/dev/null && gh codespace ports visibility "$port:public" --codespace "$CODESPACE_NAME"; then
    echo "Public at $CODEX_PUBLIC_URL (whoever has a token can run code there)"
  else
    echo "Port $port is private. To open it: tab PORTS, right-click on it, Port Visibility, Public."
  fi
fi
