import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".devcontainer"
CONTAINER = json.loads((FOLDER / "devcontainer.json").read_text())
START = (FOLDER / "start.sh").read_text()


def test_it_brings_python_and_node_and_docker():
    assert "python" in CONTAINER["image"]
    features = {name.rpartition("/")[2].partition(":")[0] for name in CONTAINER["features"]}
    assert {"node", "docker-in-docker", "github-cli"} <= features


def test_the_port_is_forwarded_and_labelled():
    assert CONTAINER["forwardPorts"] == [8000]
    assert CONTAINER["portsAttributes"]["8000"]["label"] == "Codex Server"
    assert CONTAINER["portsAttributes"]["8000"]["protocol"] == "http"  # https would make a public port private


def test_it_uses_only_keys_that_the_specification_has():
    known = {
        "name", "image", "features", "forwardPorts", "portsAttributes", "otherPortsAttributes", "postCreateCommand",
        "postStartCommand", "waitFor", "customizations",
    }  # fmt: skip
    assert set(CONTAINER) <= known
    assert "visibility" not in json.dumps(CONTAINER)  # there is no such key: `gh` sets it after each start


def test_what_it_runs_exists():
    makefile = (ROOT / "Makefile").read_text()
    setup, _, packages = CONTAINER["postCreateCommand"].partition(" && ")
    assert setup == "make setup"
    assert packages == "{ .venv/bin/codex-server runners install || true; }"  # the start tries again, and does without
    assert CONTAINER["postStartCommand"] == "bash .devcontainer/start.sh"
    for target in re.findall(r"^[^#\n]*\bmake (\w+)", START, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_start_script_is_sound_bash_and_makes_the_port_public_where_it_can():
    subprocess.run(["bash", "-n", str(FOLDER / "start.sh")], check=True)
    assert "set -euo pipefail" in START
    assert 'gh codespace ports visibility "$port:public"' in START
    assert "umask 077" in START  # its log holds the first token


def test_the_readme_tells_githubs_401_from_ours():
    section = (ROOT / "README.md").read_text().partition("## GitHub Codespaces")[2].partition("\n## ")[0]
    assert "WWW-Authenticate: tunnel" in section
    assert "WWW-Authenticate: Bearer" in section
