"""``GET /languages``: what can run."""

from fastapi import APIRouter

from codex_server.api.documents import LANGUAGES
from codex_server.api.schemas import LanguageAnswer, LanguagesAnswer
from codex_server.api.services import TheServices

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
            )
            for language in services.languages
        ]
    )
