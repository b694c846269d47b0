"""From a request's JSON to a session to open, and from a session to its response."""

from collections.abc import Mapping
from dataclasses import dataclass

from codex_server.errors import InvalidRequest, UnknownLanguage
from codex_server.ids import new_id
from codex_server.languages import Languages
from codex_server.sandboxes.session import SessionPlan
from codex_server.service.fields import FieldError, FieldsInvalid, LimitsTooLoose
from codex_server.service.open_session import OpenSession, SessionTerms
from codex_server.service.request_parsing import input_files, limit_faults, limits_wanted, validated
from codex_server.service.session_schemas import SessionLanguage, SessionLimits, SessionRequest, SessionResponse
from codex_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to open, and its terms."""

    plan: SessionPlan
    terms: SessionTerms


def read_session(content: Mapping[str, object]) -> SessionRequest:
    """The request in ``content``. Raises ``FieldsInvalid``."""
    return validated(SessionRequest, content)


def to_opening(
    request: SessionRequest, owner: str, settings: Settings, languages: Languages, uploaded: Mapping[str, bytes]
) -> Opening:
    """The session that ``request`` of ``owner`` asks for; ``uploaded`` has the content of files by their ids.

    Raises a leaf of ``InvalidRequest``, or ``LanguageUnavailable``.
    """
    if "workspace" in request.model_fields_set:
        raise InvalidRequest("this server has no named workspaces; leave `workspace` out", "/workspace")
    wanted = limits_wanted(request.limits)
    if faults := limit_faults(wanted, settings.ceilings):
        raise LimitsTooLoose(faults)
    terms = SessionTerms(
        owner=owner,
        languages=_languages(request, languages),
        limits=wanted,
        idle_seconds=_idle_seconds(request, settings),
        lifetime_seconds=settings.session_lifetime_seconds,
    )
    files = input_files(request.files, "", settings, uploaded)
    return Opening(SessionPlan(new_id("ses"), settings.ceilings.tightened(wanted), files), terms)


def describe_session(session: OpenSession, languages: Languages) -> SessionResponse:
    """The session as its owner sees it."""
    limits = session.live.plan.limits
    versions = {language.name: language.version for language in languages}
    return SessionResponse(
        session_id=session.id,
        languages={
            name: SessionLanguage(version=versions[name], started=name in session.started)
            for name in session.terms.languages
        },
        workspace=session.live.plan.workspace.name if session.live.plan.workspace else None,
        created_at=session.live.created_at,
        expires_at=session.expires_at,
        limits=SessionLimits(
            memory_bytes=limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
            processes=limits.processes,
            output_bytes=limits.output_bytes,
            file_bytes=limits.file_bytes,
        ),
    )


def _languages(request: SessionRequest, languages: Languages) -> tuple[str, ...]:
    """The names of those that are asked for; else of all that can run here."""
    if "languages" not in request.model_fields_set:
        return tuple(language.name for language in languages if language.available)
    if not request.languages:
        raise InvalidRequest("the list is empty; name a language, or leave it out for all", "/languages")
    names: dict[str, None] = {}
    for index, name in enumerate(request.languages):
        try:
            names[languages.find(name).name] = None
        except UnknownLanguage as error:
            raise UnknownLanguage(error.detail, f"/languages/{index}") from None
    return tuple(names)


def _idle_seconds(request: SessionRequest, settings: Settings) -> float:
    if "ttl_seconds" not in request.model_fields_set:
        return settings.session_idle_seconds
    longest = settings.max_session_idle_seconds
    if request.ttl_seconds > longest:
        said = f"{request.ttl_seconds:.15g} is above this server's ceiling of {longest:.15g} seconds"
        raise FieldsInvalid([FieldError("/ttl_seconds", f"{said}; ask for at most {longest:.15g}")])
    return request.ttl_seconds
