"""Runs dbt commands one after the other in one process and writes what became of them as JSON.

    .venv-dbt/bin/python dbt_commands.py PROJECT OUTPUT COMMAND...

OUTPUT gets one object a command: {"command", "success", "exception", "nodes": {name: [status, message]}}.
"""

import json
import sys
from pathlib import Path

from dbt.cli.main import dbtRunner


def main(project, output, *commands):
    outcomes = []
    for command in commands:
        folders = ["--project-dir", project, "--profiles-dir", project]
        ended = dbtRunner().invoke([*command.split(), *folders, "--log-level", "none"])
        outcomes.append(
            {
                "command": command,
                "success": ended.success,
                "exception": str(ended.exception or ""),
                "nodes": {
                    result.node.name: [str(result.status), result.message]
                    for result in getattr(ended.result, "results", None) or ()
                },
            }
        )
    Path(output).write_text(json.dumps(outcomes))


main(*sys.argv[1:])
