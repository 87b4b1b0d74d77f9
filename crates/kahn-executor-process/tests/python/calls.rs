//! Inputs and results of calls.

use std::sync::Arc;

use kahn_model::{CauseKind, Text};

use crate::support::Worker;

const SOURCE: &str = r#"
import ctypes, os, subprocess, sys

def nothing(): pass
def maybe(x="default"): return x
def echo(x): return x
def two(a, b): pass
async def later(x): return {"later": x}
class Shop:
    @staticmethod
    def sell(x): return x * 2
def not_json(x): return object()
def not_a_number(x): return float("nan")
def long(x): return "x" * x
def fail(x): raise ValueError("bad " + x)
def fail_deep(x):
    if x: return fail_deep(x - 1)
    raise KeyError("é" * 5000)
class Broken(Exception): pass
class Outer:
    class Inner(Broken): pass
def raise_own(x): raise (Outer.Inner if x else Broken)("why")
def raise_late(x): raise TimeoutError("late")
def leave(x): sys.exit(x)

def say(x):
    print("python", x)
    print("error", x, file=sys.stderr)
    subprocess.run(["echo", "child " + x])
    os.write(1, ("raw " + x + "\n").encode())
    ctypes.CDLL(None).printf(b"C %s", x.encode())

def dirty(x):
    print(os.environ["COLOUR"], os.environ["KAHN_TASK"], os.environ.get("LEFT"))
    os.environ["LEFT"] = "behind"
    os.environ["PATH"] = "nowhere"
    os.chdir("/")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    sys.stdout = None
    open(os.environ["KAHN_SCRATCH"] + "/file", "w").write("x")

def clean(x):
    subprocess.run(["env"])
    return [os.getcwd(), sorted(os.listdir(os.environ["KAHN_SCRATCH"])), "COLOUR" in os.environ]
"#;

#[tokio::test]
async fn input_and_outputs_are_json() {
    let worker = Worker::new(SOURCE);
    let fields = worker.call("echo", r#"{"n": 12345678901234567890, "who": "é🛶", "l": [1.5]}"#);
    assert_eq!(fields.await.outputs(), ["l=[1.5]", "n=12345678901234567890", "who=\"é🛶\""]);
    assert_eq!(worker.call("echo", "[null, true]").await.result(), "[null,true]");
    assert_eq!(worker.call("echo", "null").await.outputs(), [""; 0]);
    assert_eq!(worker.call("nothing", "null").await.outputs(), [""; 0]);
    assert_eq!(worker.call("maybe", "null").await.outputs(), [""; 0]);
    assert_eq!(worker.call("later", "1").await.outputs(), ["later=1"]);
    assert_eq!(worker.call("Shop.sell", "21").await.result(), "42");
    assert_eq!(worker.call("math:sqrt", "9").await.result(), "3.0");
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_is_refused() {
    let worker = Worker::new(SOURCE);
    for (function, input, words) in [
        ("not_json", "0", "not JSON serializable"),
        ("not_a_number", "0", "not JSON compliant"),
        ("long", "70000", "more than 65536 bytes"),
        ("long", "50000000", "50000002 bytes"),
        ("echo", r#"{"a b": 1}"#, "a b"),
    ] {
        let failure = worker.call(function, input).await.failure();
        assert_eq!(failure.cause.kind, CauseKind::Exception);
        assert!(failure.message.contains(words), "{failure}");
    }
    assert_eq!(worker.call("long", "2").await.result(), "\"xx\"");
}

#[tokio::test]
async fn an_exception_is_named_by_its_type() {
    let worker = Worker::new(SOURCE);
    for (function, input, name) in [
        ("raise_late", "0", "TimeoutError"),
        ("raise_own", "0", "functions.Broken"),
        ("raise_own", "1", "functions.Outer.Inner"),
        ("json:loads", "\"{\"", "json.decoder.JSONDecodeError"),
        ("long", "50000000", ""),
    ] {
        let failure = worker.call(function, input).await.failure();
        assert_eq!((failure.cause.kind, &*failure.exception), (CauseKind::Exception, name));
        assert!(!failure.message.contains('\0'), "{failure}");
    }
}

#[tokio::test]
async fn an_exception_is_told_with_its_traceback() {
    let worker = Worker::new(SOURCE);
    let ended = worker.call("fail", "\"luck\"").await;
    let failure = ended.failure();
    assert_eq!(failure.cause.kind, CauseKind::Exception);
    let lines: Vec<&str> = failure.message.lines().collect();
    assert_eq!(lines[0], "ValueError: bad luck");
    assert_eq!(lines[1], "Traceback (most recent call last):");
    // Frames outside the function are not shown.
    assert!(lines[2].contains("functions.py") && lines[2].ends_with("in fail"), "{failure}");
    assert!(ended.log.ends_with("ValueError: bad luck\n"), "{}", ended.log);

    let failure = worker.call("fail_deep", "900").await.failure();
    assert!(failure.message.starts_with("KeyError: 'é"), "{failure}");
    assert!(failure.message.trim_end().ends_with("éé'") && failure.message.len() <= 4096);
    let failure = worker.call("two", "1").await.failure();
    assert!(failure.message.starts_with("TypeError: two()"), "{failure}");
}

#[tokio::test]
async fn an_exit_is_told_by_its_code() {
    let worker = Worker::new(SOURCE);
    assert_eq!(worker.call("leave", "3").await.failure().cause, kahn_model::Cause::exit_code(3));
    let ended = worker.call("leave", "\"because\"").await;
    assert_eq!(ended.failure().cause, kahn_model::Cause::exit_code(1));
    assert_eq!(ended.log, "because\n");
    assert_eq!(worker.call("leave", "0").await.outputs(), [""; 0]);
    assert_eq!(worker.call("leave", "null").await.outputs(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let worker = Worker::new(SOURCE);
    for (function, words) in [
        ("no_such_module:x", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("no_such_function", "ImportError: cannot import name 'no_such_function' from 'functions'"),
        ("Shop.buy", "ImportError: cannot import name 'Shop.buy'"),
    ] {
        let failure = worker.call(function, "null").await.failure();
        assert_eq!(failure.cause.kind, CauseKind::Exception);
        assert!(failure.message.starts_with(words), "{failure}");
    }
    let mut assignment = worker.assignment("nothing", "null");
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new("/no/such/place"));
    let failure = worker.start(assignment).ended().await.failure();
    assert_eq!(failure.cause.kind, CauseKind::Image);
    assert!(failure.message.contains("/no/such/place"), "{failure}");
    let failure = worker.call(":nothing", "null").await.failure();
    assert!(failure.message.contains("`module:name`"), "{failure}");
}

#[tokio::test]
async fn an_interpreter_that_does_not_start_is_named_with_what_it_said() {
    let worker = Worker::new(SOURCE);
    for (interpreter, words) in [
        ("no-such-python", "`no-such-python` not found"),
        ("/no/such/python", "`/no/such/python` not found"),
        ("/bin/ls", "`/bin/ls` did not start: it ended\n/bin/ls: "),
        ("/bin/true", "`/bin/true` did not start: it ended"),
    ] {
        let mut assignment = worker.assignment("nothing", "null");
        let work = Arc::make_mut(&mut assignment.work);
        let kahn_model::Action::Python(call) = &mut work.action else { unreachable!() };
        call.interpreter = Some(Text::new(interpreter));
        let failure = worker.start(assignment).ended().await.failure();
        assert_eq!(failure.cause.kind, CauseKind::Image);
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_prints_prints_to_the_log_of_its_attempt() {
    let worker = Worker::new(SOURCE);
    let calls: Vec<_> =
        (0..40).map(|n| (n, worker.start(worker.assignment("say", &format!("\"{n}\""))))).collect();
    for (n, call) in calls {
        let log = call.ended().await.log;
        assert_eq!(log, format!("python {n}\nerror {n}\nchild {n}\nraw {n}\nC {n}"));
    }
}

#[tokio::test]
async fn a_call_finds_nothing_of_the_one_before() {
    let worker = Worker::new(SOURCE);
    for _ in 0..3 {
        let mut assignment = worker.assignment("dirty", "0");
        Arc::make_mut(&mut assignment.work).env.push(("COLOUR".into(), Text::new("blue")));
        Arc::make_mut(&mut assignment.work).env.push(("KAHN_TASK".into(), Text::new("not mine")));
        let ended = worker.start(assignment).ended().await;
        assert_eq!((ended.outputs(), &*ended.log), (vec![], "blue task None\n"));
        let ended = worker.call("clean", "0").await;
        assert_eq!(ended.result(), format!(r#"["{}",[],false]"#, worker.code()));
        assert!(ended.log.contains("KAHN_ATTEMPT=") && ended.log.contains("PATH=/"));
        assert!(!ended.log.contains("COLOUR") && !ended.log.contains("LEFT"), "{}", ended.log);
        assert!(!ended.log.contains("CARGO"), "{}", ended.log);
    }
}
