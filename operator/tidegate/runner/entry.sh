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

# As PID 1 a signal goes to every process of the container, also to those that left the session. `kill -NAME -1` is the
# one spelling that dash, bash and busybox share.
signal_all() {
    if [ "$$" -eq 1 ]; then
        kill "-$1" -1 2>/dev/null
        return
    fi
    kill "-$1" "${tidegate_session:+-}$tidegate_engine" 2>/dev/null
    if [ "$1" = KILL ]; then
        # shellcheck disable=SC2086
        kill -KILL $tidegate_loggers $tidegate_timer 2>/dev/null
    fi
}

anything_left() {
    if [ "$$" -eq 1 ]; then
        kill -0 -1 2>/dev/null
        return
    fi
    kill -0 "${tidegate_session:+-}$tidegate_engine" 2>/dev/null && return
    for tidegate_logger in $tidegate_loggers; do
        kill -0 "$tidegate_logger" 2>/dev/null && return
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
    [ -n "$tidegate_timer" ] && kill -TERM "$tidegate_timer" 2>/dev/null
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
    keep_end <"$tidegate_pipe.end" &
    tidegate_loggers=$!
    tee "$tidegate_pipe.end" <"$tidegate_pipe" &
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
        kill -USR1 "$$"
    ) >/dev/null 2>&1 &
    tidegate_timer=$!
}

# Until the publisher can take a SIGTERM: an engine that ended before would leave its work behind.
wait_for_publisher() {
    [ -n "$tidegate_ready" ] || return 0
    read_clock
    tidegate_deadline=$((tidegate_now + 120))
    while [ ! -e "$tidegate_ready" ]; do
        [ "$tidegate_why" = exited ] || finish 143
        if [ "$tidegate_now" -ge "$tidegate_deadline" ]; then
            echo "the publisher never came up: see its container's log" >&2
            finish 70
        fi
        nap
        read_clock
    done
}

finish() {
    record "$1"
    # shellcheck disable=SC2086
    [ "$$" -eq 1 ] || [ -z "$tidegate_loggers" ] || kill -KILL $tidegate_loggers 2>/dev/null
    exit "$1"
}

record() {
    has rm && rm -f "$tidegate_output/exit"
    if [ -f "$tidegate_output/exit" ] || [ ! -e "$tidegate_output/exit" ]; then
        echo "$1 $tidegate_why" >"$tidegate_output/exit"
    fi
}

trap '' TERM USR1 HUP INT # inherited by what keeps the log: it ends when nobody writes any more
start_log
trap 'tidegate_why=stopped' TERM
trap 'tidegate_why=timeout' USR1
wait_for_publisher
start_engine
while :; do
    wait "$tidegate_engine"
    tidegate_code=$?
    [ "$tidegate_why" = exited ] || break
    kill -0 "$tidegate_engine" 2>/dev/null || break
done
case $tidegate_why in
timeout) tidegate_code=124 ;;
stopped) tidegate_code=143 ;;
esac
end_everything
finish "$tidegate_code"
