# The start of a shell of a session: bash --noprofile --rcfile shell.bash -i, at a terminal of its own.
#
# At each prompt it reports the exit code of the last command and the current folder on the channel that it was started
# with (descriptor 3), which no command has at that number. The first prompt reports that the shell is ready.
exec {__channel}>&3 3>&-
HISTFILE=
PS1='\w\$ '
bind 'set enable-bracketed-paste off'
__prompt() {
    local code=$?
    if [[ $__ready ]]; then
        printf '%s %s\0' "$code" "$PWD" >&"$__channel"
    else
        __ready=1
        printf R >&"$__channel"
    fi
    return "$code"
} 2>/dev/null
PROMPT_COMMAND=__prompt
readonly PROMPT_COMMAND __channel # without them every command would seem to run for ever; this way Bash says what is wrong
readonly -f __prompt
