//! Tests of the command line itself.

use clap::{CommandFactory, Parser, error::ErrorKind};

use super::{Cli, Command, group, run};
use crate::golden;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

/// Runs a line that asks no manager; its exit code and what it says.
fn exit(line: &str) -> (u8, String) {
    let cli = parse(line).unwrap();
    let nothing = |_| -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>> {
        Box::pin(async { anyhow::bail!("listen at 127.0.0.1:7300: address in use") })
    };
    match run(cli, nothing) {
        Ok(code) => (code, String::new()),
        Err(failure) => (failure.exit_code, failure.text),
    }
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_help_texts_can_be_parsed() {
    let examples = [
        "conclave status",
        "conclave status app1 --watch",
        "conclave status --watch 5 -o json",
        "conclave explain",
        "conclave explain gate.no_coverage",
        "conclave failover app1 --dry-run --to db3",
        "conclave failover app1 --old-primary-is-dead --ignore-last-failover --yes",
        "conclave report app1-7 -o json",
        "conclave pause app1 --reason upgrade",
        "conclave resume app1 --managers 10.0.0.1:7300,10.0.0.2:7300 --insecure",
        "conclave cluster apply app1.toml --replaces 3",
        "conclave cluster show app1 -o json",
        "conclave cluster harden app1 --apply -o json",
        "conclave cluster remove app1 --yes",
        "conclave group init --members 1=10.0.0.1:7300,r1 2=10.0.0.2:7300,r2",
        "conclave tls init --dir tls --manager m1=192.0.2.11,mgr1 --operator alice",
        "conclave manager --config manager.toml",
        "conclave version",
    ];
    for line in examples {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn wrong_words_are_refused() {
    let wrong = [
        ("conclave", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("conclave failover", ErrorKind::MissingRequiredArgument),
        ("conclave status --watch 0", ErrorKind::ValueValidation),
        ("conclave status -o yaml", ErrorKind::InvalidValue),
        ("conclave group init --members 1=10.0.0.1,r1", ErrorKind::ValueValidation),
        ("conclave group init --members 0=10.0.0.1:7300,r1", ErrorKind::ValueValidation),
        ("conclave tls init --manager m1", ErrorKind::ValueValidation),
        ("conclave promote app1", ErrorKind::InvalidSubcommand),
    ];
    for (line, kind) in wrong {
        assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
    }
}

#[test]
fn members_are_read_whole() {
    let cli = parse("conclave group init --members 1=h1:7300,r1 2=h2:7300,r2").unwrap();
    let Command::Group(group::Command::Init { members }) = cli.command else {
        panic!("parsed as another command");
    };
    let wanted = ["1=h1:7300,r1", "2=h2:7300,r2"].map(|text| text.parse().unwrap());
    assert_eq!(members, wanted);
}

#[test]
fn unreachable_managers_are_exit_code_3() {
    // Ports of this range are given to nobody: nothing listens there.
    let (code, text) = exit("conclave pause app1 --insecure --managers 127.0.0.1:1,127.0.0.1:2");
    let line = |port| {
        format!(
            "\n  manager at 127.0.0.1:{port}: nothing listens there: is the manager running, and \
             is this its port?"
        )
    };
    assert_eq!((code, text), (3, format!("no manager could be asked:{}{}", line(1), line(2))));
}

#[test]
fn status_that_cannot_be_found_out_is_unknown_to_monitoring() {
    assert_eq!(exit("conclave status --insecure --managers 127.0.0.1:1").0, 3);
    assert_eq!(exit("conclave status --insecure --managers nonsense").0, 3);
}

#[test]
fn other_commands_end_with_2_for_wrong_settings_and_1_for_wrong_files() {
    assert_eq!(exit("conclave resume app1 --insecure --managers nonsense").0, 2);
    let (code, text) = exit("conclave cluster apply no-such.toml --insecure --managers h:1");
    assert_eq!((code, text.as_str()), (1, "no-such.toml: there is no such file"));
    let (code, text) = exit("conclave explain gate.nothing");
    let wanted = "there is no code gate.nothing; conclave explain lists all";
    assert_eq!((code, text.as_str()), (2, wanted));
    let (code, text) = exit("conclave status --client-config no-such.toml");
    assert_eq!((code, text.as_str()), (3, "no-such.toml: there is no such file"));
}

#[test]
fn a_definition_without_a_mode_is_explained_before_any_manager_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app1.toml");
    let text = include_str!("../../deploy/samples/app1.toml").replace("mode = \"quorum\"", "");
    std::fs::write(&file, text).unwrap();
    let line = format!("conclave cluster apply {} --insecure --managers h:1", file.display());
    let (code, said) = exit(&line);
    assert_eq!(code, 1);
    let said = said.replace(&file.display().to_string(), "app1.toml") + "\n";
    golden::check("cluster_no_mode.txt", &said);
}

#[test]
fn a_manager_that_cannot_start_says_why_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("manager.toml");
    std::fs::write(&file, include_str!("../../deploy/samples/manager.toml")).unwrap();
    let said = exit(&format!("conclave manager --config {}", file.display()));
    assert_eq!(said, (1, "listen at 127.0.0.1:7300: address in use".into()));
}

#[test]
fn a_node_tool_understands_the_line_that_mha_would_type() {
    let dir = tempfile::tempdir().unwrap();
    let logs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/binlog");
    let save = |start_pos: u32, dirs: &str, more: &str| {
        exit(&format!(
            "conclave node save_binary_logs --command=save --start_file=mysql97.000003 \
             --start_pos={start_pos} --binlog_dir={dirs} --output_file={}/out \
             --handle_raw_binlog=1 --disable_log_bin=0 --manager_version=0.58 \
             --datadir=/var/lib/mysql {more}",
            dir.path().display()
        ))
    };
    let dirs = format!("/nonexistent,{logs}");
    assert_eq!(save(287, &dirs, "").0, 0);
    assert_eq!(std::fs::metadata(dir.path().join("out")).unwrap().len(), 127 + 561 - 287);
    assert_eq!(save(561, &dirs, "").0, 10);
    let none = (1, "wanted mysql97.000003 in /nonexistent, found none".to_owned());
    assert_eq!(save(287, "/nonexistent", ""), none);
    let within = "mysql97.000003: position 429 is within a transaction that begins at 287";
    assert_eq!(save(429, logs, ""), (1, within.into()));
    assert_eq!(exit("conclave node save-binary-logs --command save").0, 2);
    let test = format!(
        "conclave node save_binary_logs --command=test --binlog_prefix=mysql97 --binlog_dir={logs}"
    );
    assert_eq!(exit(&test).0, 0);
}

#[test]
fn help_is_as_agreed() {
    let mut help = Cli::command().render_long_help().to_string();
    for name in ["status", "explain", "failover", "report", "pause"] {
        let mut command = Cli::command();
        let found = command.find_subcommand_mut(name).unwrap();
        help += &format!("\n=== {name}\n{}", found.render_long_help());
    }
    golden::check("help.txt", &(help + "\n"));
}
