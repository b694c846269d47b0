"""``list_languages``: what can run."""

from codex_server.model import Caller
from codex_server.nodes.node import LanguageInfo
from codex_server.operations.context import Context
from codex_server.operations.operation import Effect, NoInput, Operation
from codex_server.service.schemas import LanguageEntry, LanguagesResponse, PackageEntry


async def _list(caller: Caller, request: NoInput, context: Context) -> LanguagesResponse:
    return LanguagesResponse(languages=[_shown(language) for language in context.node.languages()])


def _shown(language: LanguageInfo) -> LanguageEntry:
    return LanguageEntry(
        name=language.name,
        title=language.title,
        version=language.version,
        available=language.available,
        aliases=list(language.aliases),
        file_name=language.file_name,
        packages=[PackageEntry(name=package.name, version=package.version) for package in language.packages],
    )


LIST_LANGUAGES = Operation(
    name="list_languages",
    title="List the languages",
    summary="Returns the languages that programs can be written in, with the packages that they may import.",
    effect=Effect.READ,
    input=NoInput,
    output=LanguagesResponse,
    handler=_list,
)
