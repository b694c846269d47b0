"""Runs a file of SQL: `run.py FILE [OPTIONS]`. The rows of the last statement go to stdout as JSON."""

import json
import sys

from database import Database
from request import Refused, parse


def main(file: str, arguments: list[str]) -> int:
    """The exit code: 1 with one line on stderr when the request or the SQL is at fault."""
    try:
        request = parse(arguments)
        with open(file, encoding="utf-8", errors="replace") as stream:
            sql = stream.read()
        database = Database(request.database, read_only=request.read_only)
        try:
            table = database.run(sql, request)
        finally:
            database.close()
    except Refused as error:
        sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(json.dumps(table.as_json(), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1], sys.argv[2:]))
