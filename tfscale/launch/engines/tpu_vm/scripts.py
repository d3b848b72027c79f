"""The shell scripts that run on a TPU VM: to start a job, to ask about it, and to end it.

Each job has a folder ~/.tfscale/jobs/ID there: run.sh, which runs the command, pid, worker.attempt-
R.log, and at the end exit with the status.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from strategies.extension import EXIT_REASON_VARIABLE, JOB_VARIABLE, RESTART_VARIABLE
from tfscale.launch.engines import stack_request
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.outcome import PREEMPTED_STATUS

RESTART_SECONDS = 5
"""Seconds between the end of a process and its restart."""
_POLLS_PER_SECOND = 5


def start_script(request: JobRequest, job: JobRecord, folder: str) -> str:
    """Returns the script that starts the job in the background.

    Args:
        request: What is asked for.
        job: The job.
        folder: Working directory of the command; empty: the home folder.
    """
    return "\n".join(
        [
            "set -eu",
            f"folder={_folder(job)}",
            'mkdir -p "$folder"',
            "cat > \"$folder/run.sh\" <<'TFSCALE_END'",
            _run_script(request, job, folder) + "TFSCALE_END",
            'setsid nohup sh "$folder/run.sh" > "$folder/run.log" 2>&1 < /dev/null &',
            'while [ ! -e "$folder/pid" ] && [ ! -e "$folder/exit" ]; do sleep 0.1; done',
            f"echo started {job.id}",
        ]
    )


def status_script(job: JobRecord) -> str:
    """Returns the script that prints one line: "running RESTARTS", "ended STATUS" or "unknown"."""
    return "\n".join(
        [
            f"folder={_folder(job)}",
            'if [ ! -e "$folder/exit" ] && [ -e "$folder/pid" ] &&',
            '    kill -0 "$(cat "$folder/runner")" 2> /dev/null; then',
            '    echo "tfscale: running $(cat "$folder/restart")"',
            # After the look at the process, which writes it before it ends.
            'elif [ -e "$folder/exit" ]; then echo "tfscale: $(cat "$folder/exit")"',
            'else echo "tfscale: unknown"; fi',
        ]
    )


def stop_script(job: JobRecord) -> str:
    """Returns the script that ends the job: SIGTERM, and SIGKILL after the grace period."""
    polls = max(1, round(job.grace_seconds * _POLLS_PER_SECOND))
    return "\n".join(
        [
            f"folder={_folder(job)}",
            'touch "$folder/stopped"',
            "polls=0 told=",
            f"while [ $polls -lt {polls} ]; do",
            '    pid="$(cat "$folder/pid")"',
            # A start that has just begun: the process, which has no group of its own yet, gets it.
            '    if [ "$pid" != "$told" ]; then',
            '        kill -TERM "-$pid" 2> /dev/null || [ -e "$folder/exit" ] ||',
            '            kill -TERM "$pid" 2> /dev/null',
            "        told=$pid",
            "    fi",
            '    [ -e "$folder/exit" ] && ! kill -0 "-$pid" 2> /dev/null && break',
            f"    sleep {1 / _POLLS_PER_SECOND:g}; polls=$((polls + 1))",
            "done",
            'kill -KILL "-$pid" 2> /dev/null',
            "exit 0",
        ]
    )


def log_script(job: JobRecord, follow: bool) -> str:
    """Returns the script that prints the output of all starts of the job.

    Args:
        job: The job.
        follow: Whether to go on printing.
    """
    folder = _folder(job)
    # It ends with the runner, so that the last lines are printed and it is not waited for.
    print_all = f'tail -n +1 -F --pid="$(cat {folder}/runner)"' if follow else "cat"
    return f"{print_all} {folder}/worker.attempt-*.log"


def stack_script(job: JobRecord) -> str:
    """Returns the script that asks the processes of the job for their stacks."""
    source = Path(stack_request.__file__).read_text("utf-8")  # needs no package
    return shlex.join(("python3", "-c", source, job.id))


def _folder(job: JobRecord) -> str:
    return f'"$HOME"/.tfscale/jobs/{job.id}'


def _run_script(request: JobRequest, job: JobRecord, folder: str) -> str:
    exports = {**request.environment, JOB_VARIABLE: job.id, "PYTHONUNBUFFERED": "1"}
    most = -1 if request.max_restarts is None else request.max_restarts
    lines = [
        f"folder={_folder(job)}",
        'echo $$ > "$folder/runner"',
        *([f"cd {shlex.quote(folder)} || exit 1"] if folder else ["cd"]),
        *(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
        "restart=0 used=0",
        "while :; do",
        '    echo $restart > "$folder/restart"',
        f"    export {RESTART_VARIABLE}=$restart",
        f'    export {EXIT_REASON_VARIABLE}="$folder/error.$restart.json"',
        f"    setsid {shlex.join(request.command)} \\",
        '        > "$folder/worker.attempt-$restart.log" 2>&1 &',
        "    pid=$!",
        '    echo $pid > "$folder/pid.new"; mv "$folder/pid.new" "$folder/pid"',
        "    wait $pid; status=$?",
        '    [ $status = 0 ] || [ -e "$folder/stopped" ] && break',
        f"    [ {most} -ge 0 ] || break",
        f"    if [ $status != {PREEMPTED_STATUS} ]; then",
        f"        [ $used -lt {most} ] || break",
        "        used=$((used + 1))",
        "    fi",
        "    restart=$((restart + 1))",
        f"    sleep {RESTART_SECONDS}",
        '    [ -e "$folder/stopped" ] && break',
        "done",
        'word=ended; [ -e "$folder/stopped" ] && word=stopped',
        'echo "$word $status" > "$folder/exit.new"; mv "$folder/exit.new" "$folder/exit"',
    ]
    return "\n".join(lines) + "\n"
