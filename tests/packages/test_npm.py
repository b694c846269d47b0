"""npm itself, with a registry of ours on the loopback; and what its words are turned into."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from codex_server.errors import InstallationFailed
from codex_server.interpreters import Interpreter, find_interpreter
from codex_server.packages.installation import install_packages
from codex_server.packages.npm import Steps, explain_npm, find_npm
from codex_server.packages.package_set import Package, PackageSet
from tests.levels import out_of_reach

RUNNERS = Path(__file__).parents[2] / "runners"
FILES = {
    "index.js": "module.exports = 42\n",
    "index.d.ts": "declare const answer: number\n",
    "index.js.map": "{}",
    "index.iife.js": "for browsers",
    "cli.js": "#!/usr/bin/env node\n",
    "LICENSE": "Do as you like.\n",
}
MANIFEST = {
    "name": "answer",
    "version": "1.2.3",
    "bin": {"answer": "cli.js"},
    "scripts": {"install": "echo ran > ran.txt"},
}


@dataclass
class Registry:
    """Knows the package ``answer``."""

    requested: list[str] = field(default_factory=list)
    address: str = ""
    tarball: bytes = b""

    def answer(self, path: str) -> bytes | None:
        self.requested.append(path)
        if path.endswith(".tgz"):
            return self.tarball
        if path != "/answer":
            return None
        dist = {"tarball": f"{self.address}/answer-1.2.3.tgz", "integrity": integrity(self.tarball)}
        version = {**MANIFEST, "dist": dist}
        return json.dumps({"name": "answer", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": version}}).encode()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def pack() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in {**FILES, "package.json": json.dumps(MANIFEST)}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


@contextmanager
def serving(registry: Registry) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = registry.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry(tarball=pack())
    with serving(registry):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("npm_config_registry", registry.address)
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield registry


@pytest.fixture
def node() -> Interpreter:
    found = find_interpreter("node")
    if found is None:
        out_of_reach("languages", "there is no Node.js on this machine")
    return found


def wanted(folder: Path, node: Interpreter, *, locked: str, post_install: Path | None = None) -> PackageSet:
    folder.mkdir(exist_ok=True)
    package_set = {"dependencies": {"answer": "1.2.3"}}
    answer = {"version": "1.2.3", "integrity": locked, "hasInstallScript": True, "bin": {"answer": "cli.js"}}
    lock = {"lockfileVersion": 3, "requires": True, "packages": {"": package_set, "node_modules/answer": answer}}
    manifest, lock_file = folder / "package.json", folder / "package-lock.json"
    manifest.write_text(json.dumps(package_set))
    lock_file.write_text(json.dumps(lock))
    return PackageSet("JavaScript", "npm", node, manifest, post_install, (lock_file,), folder / "sets" / "node-24-aaa")


@pytest.mark.tier("change")
def test_what_the_lock_names_is_installed_without_running_anything_of_it(
    tmp_path: Path, node: Interpreter, registry: Registry
) -> None:
    steps: list[str] = []
    package_set = wanted(tmp_path / "runner", node, locked=integrity(registry.tarball))
    installed = install_packages(package_set, steps.append)
    assert installed.packages == (Package("answer", "1.2.3"),)
    assert steps == ["1 of 1, downloaded answer-1.2.3.tgz"]
    package = installed.folder / "node_modules" / "answer"
    assert {path.name for path in package.iterdir()} == {"LICENSE", "cli.js", "index.js", "package.json"}
    assert [path.name for path in package.parent.iterdir()] == ["answer"]


@pytest.mark.tier("change")
def test_nothing_installed_names_the_registry(tmp_path: Path, node: Interpreter, registry: Registry) -> None:
    package_set = wanted(tmp_path / "runner", node, locked=integrity(registry.tarball))
    folder = install_packages(package_set, lambda _: None).folder
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"127.0.0.1" not in content
    assert any(path.endswith(".tgz") for path in registry.requested)


@pytest.mark.tier("change")
def test_a_package_that_is_not_what_the_lock_says_is_refused(
    tmp_path: Path, node: Interpreter, registry: Registry
) -> None:
    package_set = wanted(tmp_path / "runner", node, locked=integrity(b"another"))
    with pytest.raises(InstallationFailed, match=r"Integrity checksum failed"):
        install_packages(package_set, lambda _: None)
    assert package_set.installed() is None


def test_a_registry_that_is_away_is_told_with_the_remedy(
    tmp_path: Path, node: Interpreter, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    package_set = wanted(tmp_path / "runner", node, locked=integrity(registry.tarball))
    with pytest.raises(InstallationFailed, match=r"cannot be reached.*npm config list.*ECONNREFUSED"):
        install_packages(package_set, lambda _: None)


@pytest.mark.tier("change")
def test_the_runners_own_script_completes_the_installation(
    tmp_path: Path, node: Interpreter, registry: Registry
) -> None:
    post_install = tmp_path / "post_install.js"
    post_install.write_text("require('fs').writeFileSync(process.argv[2] + '/node_modules/answer/more.js', '')\n")
    package_set = wanted(tmp_path / "runner", node, locked=integrity(registry.tarball), post_install=post_install)
    assert (install_packages(package_set, lambda _: None).folder / "node_modules" / "answer" / "more.js").exists()


def test_node_without_npm_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codex_server.packages.npm.SYSTEM_PATH", str(tmp_path))
    with pytest.raises(InstallationFailed, match="apt install npm"):
        find_npm(Interpreter("node", tmp_path / "bin" / "node", tmp_path))


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("npm error code ENOSPC\nnpm error nospc no space left on device", "the disk is full"),
        ("npm error code E503\nnpm error 503 Service Unavailable", "cannot be reached.*503 Service"),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN\nnpm error errno SELF", "cannot be reached.*certificate"),
        ("npm error code ETARGET\nnpm error notarget No matching version", "npm said: notarget No matching version"),
        ("npm error Exit handler never called!", "npm said: Exit handler never called"),
        ("Segmentation fault", "npm said: Segmentation fault"),
        ("", "npm said: nothing"),
    ],
)
def test_npms_words_become_cause_and_remedy(output: str, cause: str) -> None:
    with pytest.raises(AssertionError, match=cause):
        raise AssertionError(explain_npm(output.splitlines()))


def test_only_downloads_are_told_with_how_many_there_will_be() -> None:
    steps = Steps(82)
    fetched = "npm http fetch GET 200 https://r.example/zod/-/zod-4.6.7.tgz 55ms (cache miss)"
    assert steps(fetched) == "1 of 82, downloaded zod-4.6.7.tgz"
    assert steps("npm http fetch GET 200 https://r.example/zod 55ms (cache miss)") is None
    assert steps("npm warn Unknown user config") is None
    assert steps(fetched.replace("zod", "ajv")) == "2 of 82, downloaded ajv-4.6.7.tgz"


def test_the_shipped_lock_is_whole_and_names_no_registry() -> None:
    folder = RUNNERS / "javascript"
    text = (folder / "package-lock.json").read_text()
    lock = json.loads(text)["packages"]
    package_set = json.loads((folder / "package.json").read_text())["dependencies"]
    assert lock[""]["dependencies"] == package_set
    assert {name: lock[f"node_modules/{name}"]["version"] for name in package_set} == package_set
    assert "resolved" not in text
    assert "://" not in text
    for place, facts in lock.items():
        assert not place or facts["integrity"].startswith("sha512-"), place
        assert not {"hasInstallScript", "os", "cpu"} & set(facts), f"{place} is not JavaScript alone"
