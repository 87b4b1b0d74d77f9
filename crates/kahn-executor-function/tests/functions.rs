//! Tests of the function executor.

#[cfg(test)]
#[path = "functions/support.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use kahn_executor_function::FunctionContext;
use kahn_model::CauseKind;
use support::{Rig, cause, functions};
use tokio::sync::Notify;

#[tokio::test]
async fn input_and_output_have_types_and_the_context_knows_the_attempt() {
    let rig = Rig::new(functions(|all| {
        all.add("double".into(), async |_: FunctionContext, n: i64| Ok::<_, String>(2 * n));
        all.add_blocking("who".into(), |context: FunctionContext, (): ()| {
            context.log("here");
            let task = context.variable("KAHN_TASK").map(str::to_owned);
            let colour = context.variable("COLOUR").map(str::to_owned);
            Ok::<_, String>((context.attempt().number, task, colour, context.task_key()))
        });
    }));
    assert_eq!(rig.call("double", "21").await.result(), "42");
    let ended = rig.call("who", "null").await;
    let key = "01010101-0101-0101-0101-010101010101.0";
    assert_eq!(ended.result(), format!(r#"[2,"task","red","{key}"]"#));
    assert_eq!(ended.log, "here\n");
}

#[tokio::test]
async fn an_error_a_panic_and_a_wrong_input_are_causes_and_the_worker_goes_on() {
    let rig = Rig::new(functions(|all| {
        all.add("error".into(), async |_: FunctionContext, (): ()| Err::<(), _>("no luck"));
        all.add("panic".into(), async |_: FunctionContext, n: u32| {
            assert!(n > 3, "{n} is too small");
            Ok::<_, String>(n)
        });
        all.add_blocking("deep".into(), |_: FunctionContext, (): ()| -> Result<(), String> {
            panic!("on a thread")
        });
    }));
    assert_eq!(cause(&rig.call("error", "null").await), (CauseKind::Exception, "no luck".into()));
    let panicked = cause(&rig.call("panic", "2").await);
    assert_eq!(panicked, (CauseKind::Panic, "2 is too small".into()));
    assert_eq!(cause(&rig.call("deep", "null").await), (CauseKind::Panic, "on a thread".into()));
    let (kind, message) = cause(&rig.call("panic", "\"two\"").await);
    assert_eq!(kind, CauseKind::Exception);
    assert!(message.contains("does not fit"), "{message}");
    assert_eq!(cause(&rig.call("nothing", "null").await).0, CauseKind::Infeasible);
    assert_eq!(rig.call("panic", "4").await.result(), "4");
}

#[tokio::test]
async fn an_error_is_named_by_its_type() {
    let rig = Rig::new(functions(|all| {
        all.add("typed".into(), async |_: FunctionContext, text: String| text.parse::<u8>());
        all.add("text".into(), async |_: FunctionContext, (): ()| Err::<(), _>("no luck"));
    }));
    for (name, input, expected) in
        [("typed", "\"x\"", "core::num::error::ParseIntError"), ("text", "null", "")]
    {
        let failure = rig.call(name, input).await.failure();
        assert_eq!(&*failure.exception, expected);
    }
}

#[tokio::test]
async fn a_cancelled_function_is_notified_and_then_dropped() {
    let (entered, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&entered), Arc::clone(&told));
    let rig = Rig::new(functions(|all| {
        all.add("stubborn".into(), move |context: FunctionContext, (): ()| {
            let (entered, told) = signals.clone();
            async move {
                entered.notify_one();
                context.cancellation().cancelled().await;
                told.notify_one();
                std::future::pending::<Result<(), String>>().await
            }
        });
    }));
    let running = rig.start(rig.assignment("stubborn", "null"));
    entered.notified().await;
    running.stopper.stop(CauseKind::Cancelled);
    told.notified().await;
    assert_eq!(cause(&running.ended().await).0, CauseKind::Cancelled);
}

#[tokio::test]
async fn a_blocking_function_is_waited_for_when_it_takes_too_long() {
    let rig = Rig::new(functions(|all| {
        all.add_blocking("spin".into(), |context: FunctionContext, (): ()| {
            while !context.is_cancelled() {
                std::thread::yield_now();
            }
            Ok::<_, String>(())
        });
    }));
    let mut assignment = rig.assignment("spin", "null");
    assignment.timeouts.run = Some(Duration::from_millis(20));
    let ended = rig.start(assignment).ended().await;
    assert_eq!(cause(&ended).0, CauseKind::RunTimeout);
    while rig.executor().pool().stats().busy > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_more_run_at_one_time_than_the_settings_say() {
    let gate = Arc::new(Notify::new());
    let (entered, wait) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::clone(&gate));
    let enter = Arc::clone(&entered);
    let rig = Rig::new(functions(|all| {
        all.add("wait".into(), move |_: FunctionContext, (): ()| {
            let (enter, wait) = (Arc::clone(&enter), Arc::clone(&wait));
            async move {
                enter.add_permits(1);
                wait.notified().await;
                Ok::<_, String>(())
            }
        });
    }));
    let running: Vec<_> = (0..3).map(|_| rig.start(rig.assignment("wait", "null"))).collect();
    entered.acquire_many(2).await.unwrap().forget();
    assert_eq!(entered.available_permits(), 0);
    gate.notify_one();
    entered.acquire().await.unwrap().forget();
    gate.notify_one();
    gate.notify_one();
    for one in running {
        assert!(one.ended().await.report.outcome.is_ok());
    }
}
