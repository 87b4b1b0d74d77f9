//! Tests parsing of the pressure files of this host and of synthetic ones.

use super::*;

const STALLS: &str = "some avg10=0.98 avg60=0.41 avg300=0.82 total=7777965923\n\
                      full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

#[test]
fn the_total_of_the_line_that_is_asked_for_is_read() {
    assert_eq!(total(STALLS, "some"), Some(7_777_965_923));
    assert_eq!(total(STALLS, "full"), Some(12));
    assert_eq!(total("", "some"), None);
    assert_eq!(total("some total=x", "some"), None);
}

#[test]
fn threads_that_want_to_run_are_counted_for_each_processor_without_the_one_that_asks() {
    let stat = "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\nprocs_running 8\nprocs_blocked 0\n";
    assert_eq!(demand(stat), Some(3500));
    assert_eq!(demand("cpu  1 2 3\nprocs_running 8\n"), None);
}

#[test]
fn of_n_threads_on_one_processor_all_wait_for_one_less_an_nth_of_the_time() {
    assert_eq!([0, 500, 750, 1000].map(demand_of), [1000, 2000, 4000, DEMAND_MAX]);
}

#[test]
fn the_files_of_this_machine_are_read() {
    let available = machine_available().expect("/proc/meminfo is readable");
    assert!((1..=1000).contains(&available), "{available}");
    assert!(machine_demand().is_some_and(|demand| demand <= DEMAND_MAX));
    for file in ["cpu", "memory", "io"] {
        let path = Path::new("/proc/pressure").join(file);
        // Missing or unreadable if the kernel has pressure stall information disabled.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        assert!(total(&text, "some").is_some(), "{}: {text}", path.display());
    }
    let mut source = PressureSource::open(None).expect("pressure can be measured");
    source.measure(None);
    let sample = source.measure(Some(1_000_000));
    assert!(sample.available_memory.is_some() && sample.cpu.is_some(), "{sample:?}");
}

#[test]
fn a_cgroup_tells_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("memory.pressure", "some avg10=0.00 total=1000\nfull total=0\n");
    write("cpu.pressure", "some total=0\nfull total=0\n");
    write("memory.max", "1000\n");
    write("memory.current", "990\n");
    write("memory.stat", "anon 500\ninactive_file 20\n");
    let nothing = dir.path().join("nothing");
    let mut source = PressureSource::open_under(&nothing, Some(dir.path().to_owned())).unwrap();
    let first = source.measure(None);
    assert_eq!((first.memory, first.available_memory), (None, Some(30)));
    write("memory.pressure", "some avg10=0.00 total=251000\nfull total=0\n");
    write("cpu.pressure", "some total=0\nfull total=990000\n");
    let second = source.measure(Some(1_000_000));
    assert_eq!((second.memory, second.cpu), (Some(250), Some(100_000)));
    assert_eq!(source.measure(Some(1_000_000)).memory, Some(0), "only new stalls count");
    write("memory.max", "max\n");
    let all = machine_available().and_then(|n| u32::try_from(n).ok());
    let now = source.measure(Some(1_000_000)).available_memory;
    assert!(now.zip(all).is_some_and(|(now, all)| now.abs_diff(all) < 50), "{now:?} {all:?}");
}
