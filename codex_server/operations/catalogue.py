"""Every operation, by name."""

from collections.abc import Mapping
from typing import Any

from codex_server.operations.execute_code import EXECUTE_CODE
from codex_server.operations.health_check import HEALTH_CHECK
from codex_server.operations.list_languages import LIST_LANGUAGES
from codex_server.operations.operation import Operation

CATALOGUE: Mapping[str, Operation[Any, Any]] = {
    operation.name: operation for operation in (EXECUTE_CODE, LIST_LANGUAGES, HEALTH_CHECK)
}
