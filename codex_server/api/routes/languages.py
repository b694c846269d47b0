"""``GET /languages``: what can run."""

from fastapi import APIRouter

from codex_server.api.route_docs import LANGUAGES
from codex_server.api.services import TheServices
from codex_server.languages import Language
from codex_server.service.schemas import LanguageAnswer, LanguagesAnswer, PackageAnswer

router = APIRouter()


@router.get("/languages", **LANGUAGES)
async def list_languages(services: TheServices) -> LanguagesAnswer:
    """Every language that the server knows, with the version of the interpreter that it found."""
    return LanguagesAnswer(
        languages=[
            LanguageAnswer(
                name=language.name,
                title=language.title,
                version=language.version,
                available=language.available,
                aliases=list(language.aliases),
                file_name=language.file_name,
                packages=_packages(language),
            )
            for language in services.languages
        ]
    )


def _packages(language: Language) -> list[PackageAnswer]:
    installed = language.packages.packages if language.packages else ()
    return [PackageAnswer(name=package.name, version=package.version) for package in installed]
