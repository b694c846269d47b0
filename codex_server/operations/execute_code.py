"""``execute_code``: run a program and return what became of it."""

from codex_server.execution.run import Run
from codex_server.model import Caller
from codex_server.operations.context import Context
from codex_server.operations.operation import Effect, Operation
from codex_server.service.executions import Progress
from codex_server.service.request_parsing import refuse_background, to_execution
from codex_server.service.schemas import ExecuteRequest, ExecuteResponse
from codex_server.service.truncation import fitted_response


async def submit_code(caller: Caller, request: ExecuteRequest, context: Context) -> Run:
    """The run of ``request``, for a door that follows it. Raises what the request, or the node, refuses."""
    refuse_background(request)
    return await _submit(caller, request, context)


async def execute_in_background(caller: Caller, request: ExecuteRequest, context: Context) -> Progress:
    """How a program that outlives its call stands after ``wait_seconds``, or at its end when that is sooner.

    Raises what refuses it within that time: nothing of it has begun then.
    """
    context.executions.check_room()
    run = await _submit(caller, request, context)
    try:
        await context.executions.keep(run)
    except BaseException:  # its caller would never learn its id
        await run.abandon()
        raise
    if await run.wait(request.wait_seconds) and isinstance(run.result, Exception):
        raise run.result
    return await context.executions.progress(run.id, caller.key)


async def _submit(caller: Caller, request: ExecuteRequest, context: Context) -> Run:
    cell = await context.cell(request, caller)
    uploaded = await context.uploaded(request, caller)
    execution = to_execution(request, context.settings, context.languages, uploaded, cell)
    return await context.submit(execution, caller, cell)


async def _execute(caller: Caller, request: ExecuteRequest, context: Context) -> ExecuteResponse:
    run = await submit_code(caller, request, context)
    outcome = await run.attended_outcome()
    return fitted_response(run.execution, outcome, context.languages, context.max_chars, context.form)


EXECUTE_CODE = Operation(
    name="execute_code",
    title="Run a program",
    summary="Runs a program in a fresh sandbox without network and returns what it printed. Variables and files do not "
    "last: send the files that it needs, and let it print or write into its current folder what is wanted back.",
    effect=Effect.RUN,
    input=ExecuteRequest,
    output=ExecuteResponse,
    handler=_execute,
)
