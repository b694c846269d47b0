"""``execute_code``: run a program and return what became of it."""

from codex_server.execution.run import Run
from codex_server.model import Caller
from codex_server.operations.context import Context
from codex_server.operations.operation import Effect, Operation
from codex_server.service.request_parsing import to_execution
from codex_server.service.schemas import ExecuteAnswer, ExecuteRequest
from codex_server.service.truncation import fitted_answer


def submit_code(caller: Caller, request: ExecuteRequest, context: Context) -> Run:
    """The run of ``request``, for a door that follows it. Raises what the request, or the node, refuses."""
    run = context.node.submit(to_execution(request, context.settings, context.languages), caller)
    context.follow(run)
    return run


async def _execute(caller: Caller, request: ExecuteRequest, context: Context) -> ExecuteAnswer:
    run = submit_code(caller, request, context)
    outcome = await run.attended_outcome()
    return fitted_answer(run.execution, outcome, context.languages, context.max_chars, context.form)


EXECUTE_CODE = Operation(
    name="execute_code",
    title="Run a program",
    summary="Runs a program in a fresh sandbox without network and returns what it printed. Variables and files do not "
    "last: send the files that it needs, and let it print or write into its current folder what is wanted back.",
    effect=Effect.RUN,
    input=ExecuteRequest,
    output=ExecuteAnswer,
    handler=_execute,
)
