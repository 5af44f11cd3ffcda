#!/bin/sh
# PID 1 of the `agent` container: runs the engine, keeps its log, enforces its time, ends every process it leaves.
# POSIX sh, `sleep` and `cat` are all it needs; `setsid`, `tee`, `dd`, `mkfifo`, `mv`, `rm` are used where they exist.
# Reads `settings` beside itself: variables, and `tidegate_run`, which execs the engine.

. "${0%/*}/settings" || exit 70

tidegate_why=exited
tidegate_session=
tidegate_loggers=
tidegate_timer=
tidegate_log=/dev/stdout
cd "$tidegate_workspace" || exit 70

has() {
    for tidegate_tool in "$@"; do
        command -v "$tidegate_tool" >/dev/null 2>&1 || return 1
    done
}

if [ -r "$tidegate_token" ]; then
    OPENAI_API_KEY=$(cat "$tidegate_token")
    export OPENAI_API_KEY
fi

# As PID 1 a signal goes to every process of the container, also to those that left the session.
signal_all() {
    if [ "$$" -eq 1 ]; then
        kill -s "$1" -- -1 2>/dev/null
        return
    fi
    kill -s "$1" -- "${tidegate_session:+-}$tidegate_engine" 2>/dev/null
    if [ "$1" = KILL ]; then
        # shellcheck disable=SC2086
        kill -s KILL $tidegate_loggers $tidegate_timer 2>/dev/null
    fi
}

anything_left() {
    if [ "$$" -eq 1 ]; then
        kill -s 0 -- -1 2>/dev/null
        return
    fi
    kill -s 0 -- "${tidegate_session:+-}$tidegate_engine" 2>/dev/null && return
    for tidegate_logger in $tidegate_loggers; do
        kill -s 0 "$tidegate_logger" 2>/dev/null && return
    done
    return 1
}

# Sets tidegate_now, in seconds. Without /proc, from the naps of a second each.
read_clock() {
    if [ -r /proc/uptime ] && read -r tidegate_now tidegate_rest </proc/uptime; then
        tidegate_now=${tidegate_now%%.*}
    else
        tidegate_now=$((${tidegate_now:-0} + 1))
    fi
}

# The shell reaps what ended while it waits for `sleep`.
nap() {
    [ -r /proc/uptime ] && sleep 0.1 2>/dev/null || sleep 1
}

end_everything() {
    [ -n "$tidegate_timer" ] && kill -s TERM "$tidegate_timer" 2>/dev/null
    signal_all TERM
    signal_all CONT
    read_clock
    tidegate_deadline=$((tidegate_now + tidegate_kill_after))
    while anything_left; do
        if [ "$tidegate_now" -ge "$tidegate_deadline" ]; then
            signal_all KILL
            nap
            return
        fi
        nap
        read_clock
    done
}

# Two files of at most 4 MiB each hold the end of the log; dd never reads past what it writes.
keep_end() {
    while :; do
        if ! dd bs=4096 count=1024 of="$tidegate_output/log.new" 2>/dev/null; then
            cat >/dev/null
            return
        fi
        if [ ! -s "$tidegate_output/log.new" ]; then
            rm -f "$tidegate_output/log.new"
            return
        fi
        [ -f "$tidegate_output/log" ] && mv -f "$tidegate_output/log" "$tidegate_output/log.1"
        mv -f "$tidegate_output/log.new" "$tidegate_output/log"
    done
}

start_log() {
    has mkfifo tee dd mv rm || return
    tidegate_pipe=$tidegate_output/.pipe
    rm -f "$tidegate_pipe" "$tidegate_pipe.end"
    mkfifo "$tidegate_pipe" "$tidegate_pipe.end" || return
    (
        trap '' TERM INT HUP USR1
        keep_end <"$tidegate_pipe.end"
    ) &
    tidegate_loggers=$!
    (
        trap '' TERM INT HUP USR1
        exec tee "$tidegate_pipe.end" <"$tidegate_pipe"
    ) &
    tidegate_loggers="$tidegate_loggers $!"
    tidegate_log=$tidegate_pipe
}

start_engine() {
    has setsid && tidegate_session=setsid
    if [ -n "$tidegate_loggers" ]; then
        (tidegate_run) </dev/null >"$tidegate_log" 2>&1 &
    else
        (tidegate_run) </dev/null 2>&1 &
    fi
    tidegate_engine=$!
    (
        sleep "$tidegate_timeout"
        kill -s USR1 "$$"
    ) >/dev/null 2>&1 &
    tidegate_timer=$!
}

record() {
    has rm && rm -f "$tidegate_output/exit"
    if [ -f "$tidegate_output/exit" ] || [ ! -e "$tidegate_output/exit" ]; then
        echo "$1 $tidegate_why" >"$tidegate_output/exit"
    fi
}

trap 'tidegate_why=stopped' TERM
trap 'tidegate_why=timeout' USR1
trap '' HUP INT
start_log
start_engine
while :; do
    wait "$tidegate_engine"
    tidegate_code=$?
    [ "$tidegate_why" = exited ] || break
    kill -s 0 "$tidegate_engine" 2>/dev/null || break
done
case $tidegate_why in
timeout) tidegate_code=124 ;;
stopped) tidegate_code=143 ;;
esac
end_everything
record "$tidegate_code"
exit "$tidegate_code"
