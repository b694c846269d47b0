# The interpreter of a session: bash --noprofile --norc session.bash. docs/runners.md says what it must do.
#
# It becomes an interactive Bash without a terminal, for that one alone drops a command on SIGINT, wherever it is, and
# lives on. Such a Bash runs PROMPT_COMMAND before it reads a line, and after each interrupt again. Ours is a loop that
# comes to its end with the channel, so no line is ever read and no prompt is ever shown.
#
# The loop sources loop.bash, which runs the cells: only there are the jobs that have ended forgotten. It is named from
# its own folder, so that nothing in BASH_SOURCE leads there. The condition of the loop notes how a cell has ended that
# was interrupted, or that has left loop.bash by "return" or "break".
exec 249<&3 3<&- 248>&1 247>&2 2>/dev/null # it complains that there is no terminal
IFS= read -r PROMPT_COMMAND <<'LOOP'
while { __session_status=${__session_kept:-$?} __session_flags=$-; \builtin set +xa; } 2>/dev/null; do [[ ${__session_loop-} ]] || \builtin source "$__session_folder/cells.bash"; __session_enter; \builtin source ./loop.bash; done
LOOP
__session_folder=${BASH_SOURCE%/*}
export PROMPT_COMMAND __session_folder
exec -a bash "$BASH" --noprofile --norc --noediting -i
