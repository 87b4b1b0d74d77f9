//! Expressions: available values, allowed operations and refusals by the guard.

use std::collections::BTreeMap;

use kahn_model::{Action, Condition, Outputs, TaskState, Text, Value, Work};
use kahn_spec::{
    Evaluator, ExprError, RunView, Scope, TaskView, evaluate_condition, references, render,
    render_work,
};
use proptest::prelude::*;

fn scope() -> Scope {
    let outputs = [("rows", "12"), ("name", "\"a b\""), ("list", "[1,2,3]")];
    let outputs = outputs.map(|(name, json)| (name.into(), Value::from_json(json)));
    let extract = TaskView {
        status: TaskState::Succeeded,
        outputs: Outputs(BTreeMap::from(outputs)),
        exit_code: Some(0),
    };
    Scope {
        response: None,
        params: BTreeMap::from([("day".into(), "mon".into()), ("n".into(), 7.into())]),
        matrix: BTreeMap::from([("region".into(), "eu".into())]),
        tasks: BTreeMap::from([("extract".into(), extract.clone()), ("a-b".into(), extract)]),
        run: RunView { id: "r1".into(), name: "etl".into(), namespace: "default".into() },
    }
}

#[test]
fn conditions_see_params_matrix_tasks_and_run() {
    for (source, expected) in [
        ("tasks.extract.outputs.rows > 10", true),
        ("tasks.extract.outputs.rows > params.n + 10", false),
        ("tasks.extract.status == 'succeeded' && tasks.extract.exit_code == 0", true),
        ("tasks['a-b'].outputs.list.exists(x, x == 2)", true),
        ("has(tasks.extract.outputs.nothing)", false),
        ("params.day in ['sat', 'sun']", false),
        ("matrix.region.startsWith('e')", true),
        ("run.name == 'etl' && run.namespace == 'default'", true),
        ("size(tasks.extract.outputs.list) == 3", true),
        ("params.day.matches('^m.n$')", true),
    ] {
        assert_eq!(evaluate_condition(source, &scope()), Ok(expected), "{source}");
    }
}

#[test]
fn texts_are_rendered_by_type() {
    for (text, expected) in [
        ("${{ tasks.extract.outputs.name }}", "a b"),
        ("<${{ params.n }}-${{ params.n + 1 }}>", "<7-8>"),
        ("${{ tasks.extract.outputs.list }}", "[1,2,3]"),
        ("${{ 1.5 }} ${{ true }} ${{ {'a': 1}['a'] }}", "1.5 true 1"),
        ("plain }} text", "plain }} text"),
        ("${{ '}}' }}", "}}"),
    ] {
        assert_eq!(render(&Text::new(text), &scope()).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn rendered_work_holds_no_expression() {
    let exec = ["echo", "${{ params.day }}"].map(Text::new).to_vec();
    let work = Work {
        env: vec![("ROWS".into(), Text::new("${{ tasks.extract.outputs.rows }}"))],
        working_dir: Some(Text::new("/data/${{ matrix.region }}")),
        ..Work::new(Action::Exec { argv: exec })
    };
    let rendered = render_work(&work, &scope()).unwrap();
    assert!(!rendered.is_dynamic());
    assert_eq!(rendered.env[0].1.as_str(), "12");
    assert_eq!(rendered.working_dir.unwrap().as_str(), "/data/eu");
}

#[test]
fn a_value_that_looks_like_an_expression_is_refused() {
    let hostile = Value::from_json("\"${{ params.day }}\"");
    let mut scope = scope();
    let task = scope.tasks.get_mut("extract").unwrap();
    task.outputs.0.insert("name".into(), hostile);
    for text in ["${{ tasks.extract.outputs.name }}", "$${{ '{{ params.day }}' }}"] {
        let error = render(&Text::new(text), &scope).unwrap_err();
        assert!(matches!(error, ExprError::Refused(_)), "{text}: {error}");
    }
}

#[test]
fn the_guard_refuses_what_could_hurt() {
    let chain = vec!["1"; 200].join(" + ");
    // Neither parentheses nor double negations add depth to the tree: any number is harmless.
    let parens = format!("{}true{}", "(".repeat(2000), ")".repeat(2000));
    let nots = format!("{}true", "!".repeat(500));
    for source in [parens, nots] {
        assert_eq!(evaluate_condition(&source, &scope()), Ok(true));
    }
    let lists = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let selects = format!("params{}", ".a".repeat(300));
    let ternaries = "true ? 1 : ".repeat(200) + "1";
    let loops = "[1].all(a, [1].all(b, [1].all(c, true)))".to_owned();
    let long = format!("'{}'", "x".repeat(5000));
    for source in [chain, lists, selects, ternaries, loops, long] {
        let found = references(&source);
        let is_refused = matches!(found, Err(ExprError::TooLarge(_) | ExprError::Syntax { .. }));
        assert!(is_refused, "{:?}: {found:?}", &source[..40]);
    }
}

#[test]
fn the_deepest_expressions_that_pass_the_guard_are_evaluated() {
    let sum = vec!["1"; 60].join(" + ") + " == 60";
    let list = format!("{}{} != []", "[".repeat(55), "]".repeat(55));
    let within = "[1, 2].all(a, [3, 4].exists(b, ".to_owned()
        + &"!(".repeat(20)
        + "b > a"
        + &")".repeat(20)
        + "))";
    for source in [sum, list, within] {
        assert_eq!(evaluate_condition(&source, &scope()), Ok(true), "{source}");
    }
}

#[test]
fn loops_over_large_values_are_refused_before_they_start() {
    let json = serde_json::to_string(&(0..5000).collect::<Vec<_>>()).unwrap();
    let mut scope = scope();
    let task = scope.tasks.get_mut("extract").unwrap();
    task.outputs.0.insert("list".into(), Value::from_json(json));
    let list = "tasks.extract.outputs.list";
    assert_eq!(evaluate_condition(&format!("{list}.all(x, x >= 0)"), &scope), Ok(true));
    let nested = format!("{list}.all(x, {list}.all(y, x >= y || y > x))");
    let error = evaluate_condition(&nested, &scope).unwrap_err();
    assert_eq!(error, ExprError::TooMuchWork { elements: 5000 });
}

#[test]
fn names_that_do_not_exist_are_explained() {
    for (source, name, hint) in [
        ("parms.day == 'x'", "parms", "did you mean `params`?"),
        ("tasks.extract.output.rows > 1", "tasks.extract.output", "did you mean `outputs`?"),
        ("sise([1]) > 1", "sise()", "did you mean `size`?"),
        ("run.nmae == 'x'", "run.nmae", "did you mean `name`?"),
    ] {
        let error = references(source).unwrap_err();
        let expected = ExprError::UnknownName { name: name.into(), hint: Some(hint.into()) };
        assert_eq!(error, expected, "{source}");
    }
    assert!(references("tasks.all(t, true)").is_err());
    assert!(references("[1].all(params, true)").is_err());
}

#[test]
fn what_an_expression_refers_to_is_found() {
    let found = references(
        "has(tasks.a.outputs.x) && tasks['b-c'].status == params.day && \
         tasks.m.all(t, t.exit_code == matrix.code)",
    )
    .unwrap();
    assert_eq!(found.tasks.keys().collect::<Vec<_>>(), ["a", "b-c", "m"]);
    assert!(found.tasks["a"].outputs.contains("x"));
    assert!(found.params.contains("day") && found.matrix.contains("code"));
    assert!(!found.is_static() && !found.uses_run);
}

#[test]
fn failures_say_what_to_do() {
    let error = evaluate_condition("tasks.extract.outputs.name > 1", &scope()).unwrap_err();
    assert!(matches!(error, ExprError::Failed(_)), "{error}");
    let missing = evaluate_condition("tasks.extract.outputs.nothing > 1", &scope()).unwrap_err();
    assert_eq!(missing.hint().as_deref(), Some("test with `has()` whether a value is there"));
    let number = evaluate_condition("1 + 1", &scope()).unwrap_err();
    assert_eq!(number, ExprError::NotBoolean("int".into()));
    let zero = evaluate_condition("1 / 0 == 1", &scope()).unwrap_err();
    assert!(matches!(zero, ExprError::Failed(_)));
    let overflow = evaluate_condition("9223372036854775807 + 1 > 0", &scope()).unwrap_err();
    assert!(matches!(overflow, ExprError::Failed(_)));
}

#[test]
fn an_evaluator_answers_waiting_callers_and_callbacks() {
    let evaluator = Evaluator::start(16).unwrap();
    let condition = Condition("tasks.extract.outputs.rows == 12".into());
    assert_eq!(evaluator.condition(&condition, &scope()), Ok(true));
    let text = Text::new("${{ params.day }}");
    assert_eq!(evaluator.render(&text, &scope()).as_deref(), Ok("mon"));
    let (reply, answers) = std::sync::mpsc::sync_channel(8);
    for _ in 0..8 {
        let reply = reply.clone();
        let done = move |answer| reply.send(answer).unwrap();
        evaluator.submit_condition(condition.clone(), scope(), done).unwrap();
    }
    drop(reply);
    assert_eq!(answers.iter().collect::<Vec<_>>(), vec![Ok(true); 8]);
}

#[test]
fn an_evaluator_that_is_full_says_so() {
    let evaluator = Evaluator::start(1).unwrap();
    let (gate, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let condition = Condition("true".into());
    let hold = move |_| _ = wait.recv();
    evaluator.submit_condition(condition.clone(), Scope::default(), hold).unwrap();
    let mut refused = 0;
    for _ in 0..3 {
        let answer = evaluator.submit_condition(condition.clone(), Scope::default(), |_| ());
        refused += usize::from(matches!(answer, Err(ExprError::Unavailable(_))));
    }
    assert!(refused >= 1);
    drop(gate);
}

proptest! {
    #[test]
    fn no_bytes_break_the_expression_guard(bytes: Vec<u8>) {
        kahn_spec::fuzz::expression(&bytes);
    }

    #[test]
    fn no_mix_of_tokens_breaks_the_expression_guard(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "params", "tasks", "matrix", ".", "a", "[", "]", "(", ")", "{", "}", "'x'", "1", "2.5",
            "+", "-", "*", "/", "%", "==", "<", "in", "!", "?", ":", ",", "&&", "||", "all(x,",
            "map(y,", "has(", "size(", "null", "true", " ", "\"", "9223372036854775807", "duration(",
            "timestamp('2026-01-01T00:00:00Z')", ".matches(", "'(a+)+$'", "string(", "int(", "b'\\xff'",
        ]), 0..40),
    ) {
        kahn_spec::fuzz::expression(tokens.concat().as_bytes());
    }

    #[test]
    fn no_text_breaks_the_template_scanner(text in "(\\$|\\{|\\}|'|\"|\\\\|a|\\$\\{\\{|\\}\\}){0,30}") {
        // The result must not contain expressions.
        if let Ok(rendered) = render(&Text::new(text), &Scope::default()) {
            prop_assert!(!rendered.contains("${{"));
        }
    }
}
