"""From a request's JSON to a session to open, and from a session to its response."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from codex_server.errors import IllegalPath, InvalidRequest, UnknownLanguage
from codex_server.ids import new_id
from codex_server.languages import Languages, Start
from codex_server.model import InputFile
from codex_server.paths import checked_paths
from codex_server.sandboxes.session import SessionPlan
from codex_server.service.checkpoints import Checkpoint
from codex_server.service.fields import FieldError, FieldsInvalid, LimitsTooLoose
from codex_server.service.open_session import OpenSession, SessionTerms
from codex_server.service.request_parsing import input_files, limit_faults, limits_wanted, validated
from codex_server.service.session_schemas import (
    CheckpointFile,
    CheckpointRequest,
    CheckpointResponse,
    SessionLanguage,
    SessionLimits,
    SessionRequest,
    SessionResponse,
)
from codex_server.service.workspaces import workspace_for_session
from codex_server.settings import Settings
from codex_server.units import format_sizes


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to open, and its terms."""

    plan: SessionPlan
    terms: SessionTerms


def read_session(content: Mapping[str, object]) -> SessionRequest:
    """The request in ``content``. Raises ``FieldsInvalid``."""
    return validated(SessionRequest, content)


def to_opening(
    request: SessionRequest,
    owner: str,
    settings: Settings,
    languages: Languages,
    *,
    uploaded: Mapping[str, bytes],
    kept: tuple[InputFile, ...] = (),
) -> Opening:
    """The session that ``request`` of ``owner`` asks for.

    ``uploaded`` has the content of files by their ids; ``kept`` are those of a checkpoint.

    Raises a leaf of ``InvalidRequest``, or ``LanguageUnavailable``.
    """
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
    files = _together(kept, input_files(request.files, "", settings, uploaded), settings.max_workspace)
    workspace = workspace_for_session(request.workspace, settings) if "workspace" in request.model_fields_set else None
    limits, begin = settings.ceilings.tightened(wanted), _to_begin(request, terms, languages)
    return Opening(SessionPlan(new_id("ses"), limits, files, workspace, begin), terms)


def describe_session(session: OpenSession, languages: Languages) -> SessionResponse:
    """The session as its owner sees it."""
    limits = session.live.plan.limits
    versions = {language.name: language.version for language in languages}
    return SessionResponse(
        session_id=session.id,
        languages={
            name: SessionLanguage(version=versions[name], started=name in session.live.interpreters)
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


def read_checkpoint(content: Mapping[str, object]) -> CheckpointRequest:
    """The request in ``content``. Raises ``FieldsInvalid``."""
    return validated(CheckpointRequest, content)


def describe_checkpoint(checkpoint: Checkpoint) -> CheckpointResponse:
    """The checkpoint as its owner sees it."""
    return CheckpointResponse(
        checkpoint_id=checkpoint.kept.id,
        description=checkpoint.description,
        created_at=datetime.fromtimestamp(int(checkpoint.kept.created_at), UTC),
        files=[CheckpointFile(path=path, size=size) for path, size in checkpoint.files],
        expires_at=datetime.fromtimestamp(int(checkpoint.kept.expires_at), UTC),
    )


def _together(kept: tuple[InputFile, ...], sent: tuple[InputFile, ...], room: int) -> tuple[InputFile, ...]:
    """Both, and of two with the same path the one that was sent. Raises ``InvalidRequest`` when they clash."""
    if not kept:
        return sent
    files = {file.path: file for file in (*kept, *sent)}
    try:
        checked_paths(files, "")
    except IllegalPath as error:  # one is a file where another has its folder
        raise InvalidRequest(f"with the files of the checkpoint {error.detail}", "/checkpoint") from None
    total = sum(len(file.content) for file in files.values())
    if total > room:
        shown, cap = format_sizes(total, room)
        raise InvalidRequest(
            f"the files are {shown} with those of the checkpoint, and the workspace holds {cap}", "/files"
        )
    return tuple(files.values())


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


def _to_begin(request: SessionRequest, terms: SessionTerms, languages: Languages) -> tuple[str, ...]:
    """The languages whose interpreters are started at once: those that it names, else those that are forked warm."""
    if "languages" in request.model_fields_set:
        return terms.languages
    return tuple(name for name in terms.languages if languages.find(name).start is Start.FORK)


def _idle_seconds(request: SessionRequest, settings: Settings) -> float:
    if "ttl_seconds" not in request.model_fields_set:
        return settings.session_idle_seconds
    longest = settings.max_session_idle_seconds
    if request.ttl_seconds > longest:
        said = f"{request.ttl_seconds:.15g} is above this server's ceiling of {longest:.15g} seconds"
        raise FieldsInvalid([FieldError("/ttl_seconds", f"{said}; ask for at most {longest:.15g}")])
    return request.ttl_seconds
