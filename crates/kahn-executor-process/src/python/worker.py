# The Python side of a warm interpreter: executes calls one by one until the worker closes the
# connection. Requires Python 3.8 and only its standard library.
#
# Started as `python -u -c SOURCE LIFELINE DIRECTORY RESULT_MAX MESSAGE_MAX`. The connection is
# standard input; standard output and error share a pipe, the log of the current call. Lengths
# and numbers in frames are little-endian:
#   request: u32 length, u32 length of the head, head, input; a length of 0 is a ping
#   head:    function, working directory, then name=value for each variable; NUL in between
#   reply:   u32 length, u8 kind, u8 spent, u64 processor time in microseconds, text
#   kinds:   H hello, P pong, R result, E exception (type, NUL, message; no type if the call
#            itself is invalid), X exit code, D bad directory

import importlib
import json
import os
import signal
import sys
import time
import types

if sys.version_info < (3, 8):
    sys.exit("Python 3.8 or later is needed, this is " + sys.version)

LIFELINE, DIRECTORY, RESULT_MAX, MESSAGE_MAX = sys.argv[1:5]
RESULT_MAX, MESSAGE_MAX = int(RESULT_MAX), int(MESSAGE_MAX)
TYPE_AND_TEXT_MAX = 1000
TYPE_MAX = 1000
EXIT_CODE_OF_TERM = 128 + signal.SIGTERM

PID = os.getpid()
OUT, ERR = sys.stdout, sys.stderr
ENVIRON = os.environ
# The internal dict of `os.environ`, whose bytes are set and compared without decoding.
VARIABLES = ENVIRON._data
BASE = dict(VARIABLES)
decode = json.JSONDecoder().decode
encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

try:
    from _signal import getsignal  # Does not convert to an enum.
except ImportError:
    getsignal = signal.getsignal

functions = {}
is_terminated = False


def die_with_the_worker():
    """Makes the kernel kill this process group when the lifeline is closed."""
    try:
        import fcntl

        lifeline = os.open(LIFELINE, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | fcntl.FASYNC)
    except (AttributeError, ImportError, OSError):
        return  # Not supported here; the end of the connection must suffice.
    try:
        if os.read(lifeline, 1) == b"":
            os._exit(1)
    except BlockingIOError:
        pass


def flusher_of_c():
    """Returns a function that flushes the buffered output of C code."""
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        line_buffered = 1
        libc.setvbuf(stdout, None, line_buffered, ctypes.c_size_t(0))
        fflush = libc.fflush
        return lambda: fflush(stdout)
    except Exception:
        return lambda: None


def on_term(_signal, _frame):
    """Unwinds the call, so that its resources are closed if time allows."""
    if os.getpid() != PID:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    global is_terminated
    is_terminated = True
    raise SystemExit(EXIT_CODE_OF_TERM)


def read_frame():
    data = os.read(CONNECTION, 65536)
    while len(data) < 4:
        more = os.read(CONNECTION, 65536)
        if not more:
            return None
        data += more
    length = int.from_bytes(data[:4], "little")
    if len(data) == 4 + length:
        return data[4:]
    parts, n_missing = [data[4:]], 4 + length - len(data)
    while n_missing > 0:
        more = os.read(CONNECTION, min(n_missing, 1 << 20))
        if not more:
            return None
        parts.append(more)
        n_missing -= len(more)
    return b"".join(parts)


def reply(kind, payload=b"", spent=False):
    children = os.times()
    cpu = time.process_time_ns() // 1000
    cpu += int((children.children_user + children.children_system) * 1e6)
    head = (10 + len(payload)).to_bytes(4, "little") + kind + (b"\1" if spent else b"\0")
    data = head + cpu.to_bytes(8, "little") + payload
    n_sent = os.write(CONNECTION, data)
    while n_sent < len(data):
        n_sent += os.write(CONNECTION, data[n_sent:])


def takes_nothing(function):
    """Returns whether it cannot be called with one argument, if its signature is known."""
    import inspect

    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return True
    return False


def find(path):
    name, _, attributes = path.decode().partition(":")
    found = module = importlib.import_module(name)
    try:
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except AttributeError:
        where = getattr(module, "__file__", None) or "built-in"
        raise ImportError(f"cannot import name {attributes!r} from {name!r} ({where})") from None
    functions[path] = found, takes_nothing(found)
    return functions[path]


def explain(error):
    """Prints the traceback; returns it after the error, without its start if too long."""
    try:
        text = str(error)
    except Exception:
        text = "<no text>"
    head = f"{type(error).__qualname__}: {text}"[:TYPE_AND_TEXT_MAX] + "\n"
    try:
        import traceback

        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace))
        ERR.write(text)
    except Exception:
        text = ""
    head, text = (part.encode("utf-8", "backslashreplace") for part in (head, text))
    room = max(MESSAGE_MAX - len(head), 0)
    if len(text) > room:
        ellipsis = "…".encode()
        text = ellipsis + text[len(text) - max(room - len(ellipsis), 0) :]
    return (head + text).decode("utf-8", "ignore").encode()


def type_name(error):
    """Returns the qualified type name of an exception; built-in ones have no module."""
    try:
        module, name = type(error).__module__, type(error).__qualname__
        name = name if module in (None, "builtins") else f"{module}.{name}"
    except Exception:
        name = "<no name>"
    return name.encode("utf-8", "backslashreplace").replace(b"\0", b"")[:TYPE_MAX]


def exit_code(error):
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    try:
        print(code, file=ERR)
    except Exception:
        pass
    return 1


def carry_out(path, variables, text):
    try:
        for name, value in variables:
            os.putenv(name, value)
            VARIABLES[name] = value
        function, without = functions.get(path) or find(path)
        value = None if text == b"null" else decode(text.decode())
        result = function() if without and value is None else function(value)
        if result is None:
            return b"R", b"null"
        if type(result) is types.CoroutineType:
            import asyncio

            result = asyncio.run(result)
        payload = encode(result).encode()
    except SystemExit as error:
        code = exit_code(error)
        return (b"X", str(code).encode()) if code else (b"R", b"null")
    except BaseException as error:
        return b"E", type_name(error) + b"\0" + explain(error)
    if len(payload) > RESULT_MAX:
        return b"E", f"\0result has {len(payload)} bytes as JSON, which is too many".encode()
    return b"R", payload


def restore_environment(variables):
    os.environ = ENVIRON
    for name, _ in variables:
        restore_variable(name)
    if VARIABLES != BASE:
        for name in {**VARIABLES, **BASE}:
            restore_variable(name)


def restore_variable(name):
    value = BASE.get(name)
    if value is not None:
        os.putenv(name, value)
        VARIABLES[name] = value
    elif VARIABLES.pop(name, None) is not None:
        os.unsetenv(name)


def restore_streams():
    os.dup2(LOG, 1)
    os.dup2(LOG, 2)
    sys.stdout, sys.stderr = OUT, ERR


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    flush_c()


def has_children():
    """Returns whether the call left live processes behind; reaps dead ones."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def serve():
    while True:
        frame = read_frame()
        if frame is None:
            return
        if not frame:
            reply(b"P")
            continue
        n_head = 4 + int.from_bytes(frame[:4], "little")
        path, directory, *variables = frame[4:n_head].split(b"\0")
        variables = [tuple(variable.split(b"=", 1)) for variable in variables]
        try:
            os.chdir(directory)
        except OSError as error:
            reply(b"D", str(error).encode("utf-8", "backslashreplace"))
            continue
        kind, payload = carry_out(path, variables, frame[n_head:])
        if os.getpid() != PID:
            os._exit(0)  # A forked child of the call that returned.
        flush()
        if is_terminated:
            os._exit(EXIT_CODE_OF_TERM)
        restore_environment(variables)
        restore_streams()
        if getsignal(signal.SIGTERM) is not on_term:
            signal.signal(signal.SIGTERM, on_term)
        reply(kind, payload, has_children() or OUT.closed or ERR.closed)


CONNECTION, LOG = os.dup(0), os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
os.close(null)
sys.argv[:] = [""]
sys.path[:] = [entry for entry in sys.path if entry]
if DIRECTORY:
    sys.path.insert(0, DIRECTORY)
signal.signal(signal.SIGTERM, on_term)
die_with_the_worker()
flush_c = flusher_of_c()
try:
    reply(b"H", sys.version.split()[0].encode())
    serve()
except OSError:
    os._exit(1)  # The worker is gone, or the task closed the connection.
