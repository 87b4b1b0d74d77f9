//! Recorded workflows are imported as DAGs, directly and through a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kahn_spec::import::{ImportOptions, wfcommons};
use kahn_spec::testing::Family;
use kahn_spec::{compile, graph};

/// A document to import, with its name.
type Named = (String, Vec<u8>);

/// Documents of every family, narrow and wide.
fn generated() -> Vec<Named> {
    let sizes = [(2, 1), (7, 2), (30, 3)];
    let each = Family::ALL.into_iter().flat_map(|family| sizes.map(|size| (family, size)));
    each.map(|(family, (width, seed))| {
        let name = format!("{} of width {width}, seed {seed}", family.as_str());
        (name, family.document(width, seed).into_bytes())
    })
    .collect()
}

/// The files in the folder that `KAHN_WORKFLOWS` names: an extra, for those who have recordings.
#[expect(clippy::print_stdout, reason = "missing data must be reported and not count as success")]
fn recorded() -> Vec<Named> {
    let Some(folder) = variable("KAHN_WORKFLOWS").map(PathBuf::from) else {
        println!("NOT RUN: recorded workflows: KAHN_WORKFLOWS names no folder");
        return Vec::new();
    };
    let entries = std::fs::read_dir(&folder).expect("KAHN_WORKFLOWS names a folder");
    let mut out: Vec<Named> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("a readable file")))
        .collect();
    out.sort();
    assert!(!out.is_empty(), "no recordings in {}", folder.display());
    println!("with {} recorded workflows of {}", out.len(), folder.display());
    out
}

#[expect(clippy::disallowed_methods, reason = "tests find their data through the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn check_both_ways((name, source): &Named) {
    for starts_processes in [false, true] {
        let options = ImportOptions { time_scale: 0.01, starts_processes };
        let imported = wfcommons(source, options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let direct = imported.dag().unwrap_or_else(|e| panic!("{name}: {e}"));
        let file = imported.file();
        let compiled = compile(&file, name, &BTreeMap::new())
            .unwrap_or_else(|found| panic!("{}", found.render()));
        assert_eq!(compiled.dag, direct, "{name}");
        assert!(direct.n_dependencies() > 0, "{name}");
    }
}

fn check_drawings((name, source): &Named) {
    let imported = wfcommons(source, ImportOptions::default());
    let imported = imported.unwrap_or_else(|e| panic!("{name}: {e}"));
    let dag = imported.dag().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(graph::svg(&dag).matches("<rect").count(), dag.n_tasks(), "{name}");
    assert_eq!(graph::dot(&dag).matches(" -> ").count(), dag.n_dependencies(), "{name}");
    let mermaid = graph::mermaid(&dag);
    assert_eq!(mermaid.lines().count(), 1 + dag.n_tasks() + dag.n_dependencies(), "{name}");
}

#[test]
fn a_document_gives_the_same_dag_directly_and_through_its_file() {
    generated().iter().for_each(check_both_ways);
}

#[test]
fn a_document_can_be_drawn() {
    generated().iter().for_each(check_drawings);
}

#[test]
fn recorded_workflows_are_imported_and_drawn_like_generated_ones() {
    for recording in recorded() {
        check_both_ways(&recording);
        check_drawings(&recording);
    }
}

#[test]
fn a_generated_document_has_the_shape_of_its_family() {
    // Tasks and dependencies of recordings with as many inputs.
    let shapes = [
        (Family::Montage, 30, 619, 1641),
        (Family::Epigenomics, 14, 119, 144),
        (Family::Blast, 40, 43, 120),
        (Family::ThousandGenomes, 10, 104, 152),
        (Family::Seismology, 300, 301, 300),
    ];
    for (family, width, n_tasks, n_dependencies) in shapes {
        let source = family.document(width, 7);
        assert_eq!(source, family.document(width, 7));
        assert_ne!(source, family.document(width, 8));
        let dag = wfcommons(source.as_bytes(), ImportOptions::default()).unwrap().dag().unwrap();
        let found = (dag.n_tasks(), dag.n_dependencies());
        assert_eq!(found, (n_tasks, n_dependencies), "{family:?}");
    }
}

#[test]
fn a_recording_with_holes_is_completed_and_scaled() {
    let source = br#"{
        "name": "a b",
        "workflow": {
            "specification": { "tasks": [
                { "name": "x", "id": "x/1", "children": ["x 1"] },
                { "name": "x", "id": "x 1", "parents": ["x/1"] }
            ] },
            "execution": { "tasks": [
                { "id": "x 1", "runtimeInSeconds": 2.5, "coreCount": 4, "memoryInBytes": 1024 }
            ] }
        }
    }"#;
    let options = ImportOptions { time_scale: 2.0, ..ImportOptions::default() };
    let dag = wfcommons(source, options).unwrap().dag().unwrap();
    assert_eq!(dag.name().as_str(), "a-b");
    let [first, second] = ["x-1", "x-1-2"].map(|name| dag.task_by_name(name).unwrap());
    assert_eq!(dag.dependencies(second).map(|d| d.task).collect::<Vec<_>>(), [first]);
    assert_eq!(dag.estimate(second).unwrap().as_secs(), 5);
    assert_eq!(dag.profile(first).resources.to_string(), "cpu=1");
    assert_eq!(dag.profile(second).resources.to_string(), "cpu=4 memory=1Ki");
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let unknown = br#"{"workflow":{"specification":{"tasks":[{"id":"a","parents":["b"]}]}}}"#;
    let error = wfcommons(unknown, ImportOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "task `a` names `b`, which does not exist");
    assert!(wfcommons(b"[]", ImportOptions::default()).is_err());
    let negative = ImportOptions { time_scale: -1.0, ..ImportOptions::default() };
    let source = br#"{"workflow":{"specification":{"tasks":[{"id":"a"}]},
        "execution":{"tasks":[{"id":"a","runtimeInSeconds":1}]}}}"#;
    assert!(wfcommons(source, negative).is_err());
}
