#!/usr/bin/env bash
# What a person at a terminal sees while something takes time: one line that changes, gone when it is
# over; and what a log gets instead.
# seconds: 15
. "$(dirname "$0")/lib.sh"

command -v node >/dev/null || skip_rest "Node.js is not installed"
node_app slow '{"path": "/", "workers": 1}' <<'JS'
setTimeout(() => require('http').createServer((req, res) => res.end('hello')).listen(3000), 1200);
JS

# on_terminal MARK COMMAND...: the raw bytes that a terminal of 100 columns gets, until MARK comes or the command ends.
on_terminal() {
    python3 - "$@" <<'PY'
import fcntl, os, pty, struct, sys, termios, time
mark, command = sys.argv[1].encode(), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.environ.pop("NO_COLOR", None)
    os.execv(command[0], command)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
text, deadline = b"", time.time() + 40
try:
    while mark not in text and time.time() < deadline:
        more = os.read(fd, 65536)
        if not more: break
        text += more
    if mark in text:
        os.kill(pid, 15)
    while time.time() < deadline:
        more = os.read(fd, 65536)
        if not more: break
except OSError:
    pass
os.waitpid(pid, 0)
sys.stdout.buffer.write(text)
PY
}

start_on_terminal() {
    local seen
    seen=$(on_terminal 'Ctrl-C stops' "$SIDEKEEPER" run --apps "$TMP/apps" --listen 127.0.0.1:0 --run-dir "$TMP/r" | cat -v)
    has "$seen" '^[[Kstarting: 0 of 1 workers ready; slow.0 for 0.'
    # Drawn again in its place, and cleared before the screen with the address.
    [ "$(grep -o 'slow.0 for' <<<"$seen" | wc -l)" -ge 3 ]
    has "$(tail -n 12 <<<"$seen")" 'http://127.0.0.1:'
    lacks "$(sed -n '/sidekeeper.*0\.1\.0/,$p' <<<"$seen")" 'starting:'
}
check "the start shows who is still coming up, in one line" start_on_terminal

step "a start without a terminal has no such line in its log"
start_sidekeeper
lacks "$(cat "$LOG")" $'\e[K' $'\r'

reload_on_terminal() {
    local seen
    seen=$(on_terminal 'never said' "$SIDEKEEPER" reload --run-dir "$SK_DIR/run" | cat -v)
    has "$seen" '^Mslow: 0 of 1 done; the successor of worker 0 starts^[[K' 'slow: 1 worker of the new version serves'
}
check "a reload shows how far it is, in one line" reload_on_terminal
