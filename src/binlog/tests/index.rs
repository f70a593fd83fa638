//! The list of files, held against what is there.

use crate::binlog::{
    LogFile,
    index::{Mismatch, log_name, paths, reconcile},
};

fn there(names: &[&str]) -> Vec<LogFile> {
    names.iter().map(|name| LogFile { name: (*name).into(), len: 1 }).collect()
}

fn names(index: &str, files: &[&str]) -> (Vec<String>, Vec<Mismatch>) {
    let (chain, mismatches) = reconcile(index.as_bytes(), &there(files));
    (chain.files.into_iter().map(|file| file.name).collect(), mismatches)
}

#[test]
fn files_are_ordered_by_number_and_not_by_text() {
    let index = "./bin.999999\n./bin.1000000\n./bin.1000001\n";
    let (found, odd) = names(index, &["bin.1000001", "bin.999999", "bin.1000000", "bin.index"]);
    assert_eq!(
        (found, odd),
        (["bin.999999", "bin.1000000", "bin.1000001"].map(Into::into).into(), vec![])
    );
}

#[test]
fn an_index_that_lies_is_told_and_what_is_there_is_taken() {
    let index = "/logs/bin.000002\r\n\nnonsense\n/logs/bin.000003\n/logs/other.000004\n";
    let (found, odd) = names(index, &["bin.000001", "bin.000002", "bin.000005", "ib.000003"]);
    assert_eq!(found, ["bin.000002", "bin.000005"]);
    let gap = Mismatch::Gap { before: "bin.000002".into(), after: "bin.000005".into() };
    let wanted = [
        Mismatch::Odd("nonsense".into()),
        Mismatch::Missing("/logs/bin.000003".into()),
        Mismatch::Odd("/logs/other.000004".into()),
        Mismatch::Unlisted("bin.000005".into()),
        gap,
    ];
    assert_eq!(odd, wanted);
}

#[test]
fn an_empty_index_names_no_file() {
    assert_eq!(names("", &["bin.000001"]), (vec![], vec![]));
    assert_eq!(paths(b"\n\n"), Vec::<String>::new());
}

#[test]
fn names_of_logs_end_in_a_number() {
    assert_eq!(
        log_name("./a.b.000042").map(|name| (name.base, name.number)),
        Some(("a.b".into(), 42))
    );
    for odd in
        ["binlog.index", "binlog", ".000001", "binlog.", "binlog.00x1", "b.99999999999999999999"]
    {
        assert_eq!(log_name(odd), None, "{odd}");
    }
}
