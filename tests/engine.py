"""The Docker engine that the tests may use, and the runners' images, built from this checkout.

``DOCKER_HOST`` names the engine; ``CODEX_TEST_BASE`` an image to build from where the Dockerfiles' own cannot be
fetched (``.ci/engine`` makes one). Without an engine the tests over it are skips that say so; with ``docker`` among
``CODEX_REQUIRE_LEVELS`` they fail.
"""

import os

from codex_server.languages import Languages
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.docker.images import LABELS, build_context, image_name, runners_with_images
from tests.levels import out_of_reach

BASE = os.environ.get("CODEX_TEST_BASE")
HOST = os.environ.get("DOCKER_HOST")


def built_images(languages: Languages, name: str) -> str:
    """A template for the setting docker_image, with an image behind it for each runner; or a skip that says why not."""
    template = f"codex-test-{name}-{{runner}}:{{version}}"
    arguments = {"PACKAGES": "no"} | ({"BASE": BASE} if BASE else {})
    engine = Engine(HOST)
    try:
        for runner in runners_with_images(languages):
            context = build_context(runner, languages)
            image = image_name(template, runner.name)
            for _ in engine.build(context, image, arguments=arguments, labels=LABELS, network=None):
                pass
    except EngineError as error:
        out_of_reach("docker", error)
    finally:
        engine.close()
    return template
