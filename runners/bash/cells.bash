# Sourced by the loop of session.bash when it begins. 249 is the channel, 248 and 247 are the first standard output and
# standard error. Every name of ours begins with __session, and what a cell may have replaced is called as a builtin.
exec 2>&247
declare +x PROMPT_COMMAND
__session_loop=$PROMPT_COMMAND __session_ready=0 __session_running=0 __session_status=0
PS1=
unset HISTFILE
declare +x __session_folder
set +o history

# Go to the folder of loop.bash, and back.
__session_enter() {
    __session_places=("$PWD" "${OLDPWD-}")
    CDPATH='' \builtin cd "$__session_folder"
}
__session_leave() {
    CDPATH='' \builtin cd -- "${__session_places[0]}" || CDPATH='' \builtin cd / # it may be gone
    OLDPWD=${__session_places[1]}
}

# Reply to the cell that has ended, and read the next one. Not 0: there is none.
__session_next() {
    PROMPT_COMMAND=$__session_loop # a cell may have set its own
    # What is noted is noted first: an interrupt in between must not have it said twice.
    if ((__session_running)); then
        \builtin printf '{"exit_code": %d, "result": null}\0' $((__session_running = 0, __session_status)) >&249
    elif ((!__session_ready)); then
        __session_ready=1
        \builtin printf R >&249
    fi
    local number options
    IFS= \builtin read -r -d '' __session_stdin <&249 || \builtin return 1
    __session_running=1
    IFS= \builtin read -r -d '' number <&249 && IFS= \builtin read -r -d '' options <&249 || \builtin return 1
    IFS= \builtin read -r -d '' -n 4096 __session_code <&249 || \builtin return 1
    if ((${#__session_code} == 4096)); then # Bash makes one system call for each byte
        __session_code+=$(command -p head -z -n 1 <&249 | command -p tr -d '\0'; \builtin printf .)
        __session_code=${__session_code%.}
    fi
    [[ $options == *'"args": ["'* || $options == *'"env": {"'* ]] && __session_parse "$options"
    # A stream that was redirected stays so; one that was closed is back.
    { \builtin : 246>&1; } 2>/dev/null || exec 1>&248
    { \builtin : 246>&2; } 2>/dev/null || exec 2>&247
    # With "set -e" a cell that ends in "false || x" or "[[ ]] && x" is no failure, but the "eval" around it would be one.
    __session_kept=
    if [[ $__session_flags == *e* || $__session_code == *'set -'* ]] && [[ $__session_code != *'<<'* ]]; then
        __session_code+=$'\n{ __session_kept=$?; } 2>/dev/null'
    fi
    [[ $__session_flags == *[xa]* ]] && __session_code="set -${__session_flags//[!xa]/}"$'\n'$__session_code
    \builtin return 0
}

# Export the members of "env" and collect those of "args" from a JSON object.
__session_parse() {
    local IFS=' ' rest=$1 args=() string='^"(([^"\\]|\\.)*)"' depth=0 part='' name='' text
    while [[ $rest ]]; do
        if [[ $rest =~ $string ]]; then
            rest=${rest:${#BASH_REMATCH[0]}}
            __session_decode "${BASH_REMATCH[1]}"
            if ((depth == 1)); then
                part=$text
            elif [[ $depth$part == 2args ]]; then
                args+=("$text")
            elif [[ $depth$part == 2env && $rest == :* ]]; then
                name=$text
            elif [[ $depth$part == 2env && $name =~ ^[A-Za-z_][A-Za-z_0-9]*$ ]]; then
                \builtin export "$name=$text"
            fi
        else
            [[ $rest == ["[{"]* ]] && ((depth += 1))
            [[ $rest == ["]}"]* ]] && ((depth -= 1))
            rest=${rest:1}
        fi
    done
    ((${#args[@]})) && __session_code="set -- ${args[*]@Q}; $__session_code"
    \builtin return 0
}

# Set "text" to what a string of JSON says.
__session_decode() {
    local rest=${1//\\\"/\"} pair='^([^\\]|\\[^u]|\\u[^dD]|\\u[dD][0-7])*\\u([dD][89abAB]..)\\u([dD][c-fC-F]..)'
    while [[ $rest =~ $pair ]]; do # two halves of a character beyond the first 65,536
        local high=0x${BASH_REMATCH[2]} low=0x${BASH_REMATCH[3]}
        \builtin printf -v text '\\U%08x' $((0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff)))
        rest=${rest/"\\u${BASH_REMATCH[2]}\\u${BASH_REMATCH[3]}"/$text}
    done
    \builtin printf -v text '%b' "$rest"
}

# The exit code of the cell before, for the next one to ask.
__session_set() {
    \builtin return "$__session_status"
}
