"""Plays the tables beside this file against a running sidekeeper.

usage: run.py PID SOCKET_FILE ADDRESS_FILE [WORD...]

PID is sidekeeper's process. The files come into being while it starts: in the one is the path where
it looks for its one worker, which is then us, in the other the address where it listens. Only
cases whose name or place holds one of the words are played. The language of the tables is
described at the head of each; the steps are in `play`, the strict reader in `wire`.
"""

import os
import pathlib
import re
import select
import signal
import socket
import sys
import time

from play import ANSWER, PATIENCE, Stage, Wrong
from wire import Malformed

FOLDER = pathlib.Path(__file__).parent
ASK = "GET / HTTP/1.1~Host: h~~"
AFTER = b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n"
# Into how many pieces a message is torn at most: enough for a read to end anywhere in a head.
PIECES_MAX = 400
ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "s": " ", "\\": "\\"}


def unescape(text):
    """The bytes that a table means: `~` is CRLF, `{ab*3}` is ababab, and \\r \\n \\t \\0 \\s \\xNN."""
    text = re.sub(r"\{(.+?)\*(\d+)\}", lambda m: m[1] * int(m[2]), text)
    text = text.replace("~", "\r\n")
    text = re.sub(
        r"\\(x[0-9a-f]{2}|[rnt0s\\])",
        lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" else ESCAPES[m[1]],
        text,
    )
    return text.encode("latin-1")


# ---- what a message must be ----------------------------------------------------------------------


def check(message, clauses):
    """`body TEXT`, `bytes N`, `has NAME: VALUE`, `lacks NAME`: of a request or an answer."""
    for clause in clauses:
        word, _, rest = clause.partition(" ")
        if word == "body":
            if message.body != unescape(rest):
                raise Wrong(f"body {message.body[:200]!r} instead of {rest}")
        elif word == "bytes":
            if len(message.body) != int(rest):
                raise Wrong(f"{len(message.body)} bytes of body instead of {rest}")
        elif word == "has":
            name, _, value = rest.partition(":")
            value = unescape(value.strip()).decode("latin-1")
            if message.head.values(name) != [value]:
                raise Wrong(f"{name} is {message.head.values(name)} instead of {value}")
        elif word == "lacks":
            if message.head.values(rest):
                raise Wrong(f"{rest} must not be there: {message.head.values(rest)}")
        elif word not in ("closes", "to", "dropped", "silent"):
            raise Wrong(f"the table has an unknown clause: {clause}")


def check_request(message, wanted):
    start, *clauses = wanted
    if f"{message.head.method} {message.head.target}" != unescape(start).decode("latin-1"):
        raise Wrong(f"{message.head.method} {message.head.target} instead of {start}")
    for name in ("X-Forwarded-For", "X-Sidekeeper-Client", "X-Forwarded-Proto", "Via"):
        if not message.head.values(name):
            raise Wrong(f"the worker was not told {name}")
    if [v.split(" ")[0] for v in message.head.values("X-Sidekeeper-Client")] != ["127.0.0.1"]:
        raise Wrong("the worker was told a wrong client")
    check(message, clauses)


def check_answer(message, wanted):
    status, *clauses = wanted
    if message.head.status != int(status):
        raise Wrong(f"status {message.head.status} instead of {status}")
    # RFC 9110 6.6.1.
    if message.head.status >= 200 and message.head.one("Date") is None:
        raise Wrong(f"a {status} without Date")
    check(message, clauses)


def see_answer(client, wanted):
    method = next((c[3:] for c in wanted if c.startswith("to ")), "GET")
    if wanted[0].startswith("cut"):
        message = client.cut()
        if message.head and message.head.start.split(b" ")[1].decode() != wanted[0][4:]:
            raise Wrong(f"{message.head.start!r} instead of {wanted[0]}")
        return check(message, wanted[1:])
    message = client.answer(method)
    check_answer(message, wanted)
    if "closes" in wanted:
        if "close" not in message.head.options():
            raise Wrong("the answer does not say close")
        client.sees("end")
    elif "silent" not in wanted and wanted[0] >= "2" and "close" in message.head.options():
        raise Wrong("the answer says close")


def split(text, separator):
    return [part.strip() for part in text.split(separator)]


# ---- the three kinds of tables -------------------------------------------------------------------


def play_request(stage, group, row, pieces):
    """A row of requests.txt: the bytes of a client, and what becomes of them."""
    data = unescape(group["template"].replace("$", row[1]))
    client = stage.client()
    client.send(data, pieces)
    closed = False
    for outcome in row[2].split("&&"):
        wanted = split(outcome, ";")
        if wanted[0].isdigit():
            see_answer(client, [*wanted, "closes"])
            closed = True
            # What came in pieces may have been begun before the fault was seen, and is cut then.
            if pieces > 1:
                stage.accept_all()
                for worker in stage.workers:
                    if worker is not stage.current:
                        worker.begun()
            continue
        check_request(stage.next_request(), wanted)
        stage.current.send(ANSWER)
        method = wanted[0].split(" ")[0]
        clauses = [c for c in wanted if c == "closes"]
        body = [] if method == "HEAD" else ["body ok"]
        see_answer(client, ["200", f"to {method}", *body, *clauses])
        closed = bool(clauses)
    stage.nothing_else()
    if not closed:
        play_after(stage, client)


def play_after(stage, client):
    """The connection carries another request: nothing of the last one was left over."""
    client.send(AFTER)
    check_request(stage.next_request(), ["GET /after"])
    stage.current.send(ANSWER)
    see_answer(client, ["200", "body ok"])


def play_response(stage, group, row, pieces):
    """A row of responses.txt: the bytes of a worker, and what the client sees of them."""
    said, ending = re.fullmatch(r"(.*?)(?: <(closes|resets)>)?", row[1]).groups()
    data = unescape(group["template"].replace("$", said))
    wanted = split(row[2], ";")
    client = stage.client()
    client.send(unescape(group["ask"]))
    worker = stage.worker(1)
    worker.peeks = ending == "resets"
    worker.request()
    worker.send(data, pieces)
    if ending:
        worker.close()
    see_answer(client, wanted)
    if wanted[0].startswith("cut"):
        return
    dropped = ending or wanted[0] == "502" or "dropped" in wanted
    if dropped and not ending:
        worker.sees("close")
    if "closes" not in wanted:
        play_after(stage, client)
        reused = stage.current is worker
        if reused == bool(dropped):
            raise Wrong(f"the worker's connection was {'' if reused else 'not '}used again")
    stage.nothing_else()


def play_exchange(stage, steps, pid):
    """A case of exchanges.txt, step by step."""
    for step in steps:
        try:
            play_step(stage, step, pid)
        except (Wrong, Malformed) as wrong:
            raise Wrong(f"at '{step}': {wrong}") from None
    stage.nothing_else()


def play_step(stage, step, pid):
    match = re.match(r"(\w+)(?: (\d+))? (?:([<>]) )?(.*)", step)
    who, number, direction, what = match.groups()
    number = number and int(number)
    if who == "sidekeeper":
        return suspend(pid) if what == "stops" else os.kill(pid, signal.SIGCONT)
    if who == "pause":
        return time.sleep(float(what))
    if who == "both":
        return answer_all(stage, number, what)
    if direction == "<" and who == "worker":
        return worker_sees(stage, number, what)
    if who == "worker":
        end = stage.worker(number) if number else stage.current
    else:
        end = stage.client(who + str(number or ""))
    if direction == "<":
        return client_sees(end, what)
    if direction == ">" and what == "until stuck":
        return end.stuff()
    if direction == ">":
        return end.send({"ok": ANSWER, "ok-head": ANSWER[:-2]}.get(what) or unescape(what))
    {"ends": end.half_close, "closes": end.close, "resets": end.reset}[what]()


def suspend(pid):
    """Stops the process; a thread of it may still finish what it was doing when the signal came."""
    os.kill(pid, signal.SIGSTOP)
    states = "R"
    while set(states) != {"T"}:
        stats = [task / "stat" for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


def answer_all(stage, number, start):
    """The worker answers so many requests, and their client gets as many answers."""
    for _ in range(number):
        check_request(stage.next_request(), [start])
        stage.current.send(ANSWER)
    for _ in range(number):
        see_answer(stage.client(), ["200", "body ok"])


def client_sees(client, what):
    word, _, rest = what.partition(" ")
    match word:
        case "end" | "reset" | "close":
            client.sees(word)
        case "nothing":
            client.sees_nothing()
        case "bytes":
            client.takes(unescape(rest))
        case "begun":
            client.begun(int(rest))
        case "interim":
            for _ in range(int(rest)):
                see_answer(client, ["103"])
        case _:
            see_answer(client, split(what, ";"))


def worker_sees(stage, number, what):
    word, _, rest = what.partition(" ")
    worker = stage.worker(number) if number else stage.current
    match word:
        case "begun-with":
            stage.current = worker = stage.worker(number or len(stage.workers) or 1)
            worker.peeks = rest.endswith("; unread")
            worker.begins(rest.removesuffix("; unread"))
        case "close-without-request":
            worker.begun()
        case "close" if rest:
            worker.sees_soon(float(rest.removeprefix("within ")))
        case "end" | "reset" | "close":
            worker.sees(word)
        case "nothing":
            worker.sees_nothing()
        case "bytes":
            worker.takes(unescape(rest))
        case "drains":
            worker.drains()
        case _:
            if what.endswith("; unread"):
                worker.peeks = True
            what = what.removesuffix("; unread")
            check_request(stage.next_request(number), split(what, ";"))


# ---- reading tables ------------------------------------------------------------------------------


def lines(name):
    for number, line in enumerate((FOLDER / name).read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield f"{name}:{number}", line


def rows(name, play):
    """A table of rows under groups: `== title`, `:: template`, `>> request`, `name | bytes | what`."""
    group = {}
    for place, line in lines(name):
        if line.startswith("=="):
            group = {"title": line[2:].strip(), "template": "$", "ask": ASK}
        elif line.startswith("::"):
            group = {**group, "template": line[2:].strip()}
        elif line.startswith(">>"):
            group = {**group, "ask": line[2:].strip()}
        else:
            row = [part.strip() for part in re.split(r" +\| +", line)]
            if len(row) != 3:
                sys.exit(f"{place}: not three columns")

            def whole_and_torn(stage, _pid, group=group, row=row):
                play(stage, group, row, 1)
                yield
                play(stage, group, row, PIECES_MAX)

            yield place, f"{group['title']}: {row[0]}", whole_and_torn


def cases(name):
    """Cases of several steps: `== title`, `-- name`, then one step a line."""
    title, found = "", []
    for place, line in lines(name):
        if line.startswith("=="):
            title = line[2:].strip()
        elif line.startswith("--"):
            found.append((place, f"{title}: {line[2:].strip()}", []))
        else:
            found[-1][2].append(line.strip())
    for place, case, steps in found:

        def once(stage, pid, steps=steps):
            play_exchange(stage, steps, pid)
            yield

        yield place, case, once


def content(file):
    """What is in a file, as soon as it is complete."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if file.exists() and (text := file.read_text()).endswith("\n"):
            return text.split("\n")[0]
        time.sleep(0.02)
    sys.exit(f"{file} was never written")


def descriptors(pid):
    """How many it has open, but for pipes: a pool thread keeps one, once a large upload went through it."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return sum(not link.startswith("pipe:") for link in links)



def take_the_workers_place(socket_file, address_file):
    """Listens where sidekeeper looks for its worker, until it is content with what it found."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(content(socket_file))
    listener.listen(64)
    host, _, port = content(address_file).rpartition(":")
    while select.select([listener], [], [], 0)[0]:
        listener.accept()[0].close()
    return (host, int(port)), listener


def main():
    pid, socket_file, address_file, *words = sys.argv[1:]
    pid = int(pid)
    address, listener = take_the_workers_place(*map(pathlib.Path, (socket_file, address_file)))
    tables = [
        *rows("requests.txt", play_request),
        *rows("responses.txt", play_response),
        *cases("exchanges.txt"),
    ]
    failed, before = 0, descriptors(pid)
    for place, name, play in tables:
        if words and not any(word in f"{place} {name}" for word in words):
            continue
        stage = Stage(address, listener)
        try:
            for _ in play(stage, pid):
                # Once more with fresh connections, in another way.
                stage.strike()
                stage.clients, stage.workers, stage.current = {}, [], None
            print(f"ok - {name}", flush=True)
        except (Wrong, Malformed, OSError) as wrong:
            failed += 1
            os.kill(pid, signal.SIGCONT)
            print(f"not ok - {name}\n#   {place}: {wrong!r:.500}", flush=True)
            stage.strike()
            # What is sent once more now belongs to this case and not to the next one.
            time.sleep(0.2)
        finally:
            stage.strike()
    give_up = time.monotonic() + PATIENCE
    while descriptors(pid) > before and time.monotonic() < give_up:
        time.sleep(0.1)
    kept = descriptors(pid) - before
    print(f"{'ok' if kept <= 0 else 'not ok'} - sidekeeper keeps no descriptor of a case ({kept})")
    sys.exit(failed > 0 or kept > 0)


if __name__ == "__main__":
    main()
