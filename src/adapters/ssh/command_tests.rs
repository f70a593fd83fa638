use std::process::Command;

use super::*;

fn vip(address: &str) -> Vip {
    Vip { address: address.into(), prefix: 32, interface: "eth1".into() }
}

fn all() -> Vec<RemoteCommand> {
    let service = Some("mysql@o'brien.service".into());
    vec![
        RemoteCommand::Fence {
            data_dir: "/srv/o'brien/$(reboot) `id`".into(),
            service,
            vips: vec![vip("10.0.0.9"), vip("10.0.0.8")],
        },
        RemoteCommand::Fence { data_dir: "/d".into(), service: None, vips: vec![] },
        RemoteCommand::TakeVip { vip: vip("10.0.0.9") },
        RemoteCommand::DropVip { vip: vip("10.0.0.9") },
    ]
}

#[test]
fn a_quoted_word_comes_out_of_the_shell_as_it_went_in() {
    for word in ["", "a b", "o'brien", "$(id) `id` $HOME", "a\\n\n*", "--x", "''"] {
        let echo = format!("printf %s {}", quote(word));
        let output = Command::new("sh").arg("-c").arg(echo).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}

#[test]
fn every_script_is_one_that_sh_understands() {
    for command in all() {
        let mut sh = Command::new("sh");
        let output = sh.args(["-n", "-c", &script(&command)]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command:?}: {errors}");
    }
}

#[test]
fn parameters_reach_the_script_unharmed() {
    let fence = script(&all()[0]);
    let head: String = fence.lines().take(3).collect::<Vec<_>>().join("\n");
    let show = format!("{head}\nprintf '%s|%s|%s' \"$data_dir\" \"$unit\" \"$addresses\"");
    let output = Command::new("sh").arg("-c").arg(show).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "/srv/o'brien/$(reboot) `id`|mysql@o'brien.service|10.0.0.9 10.0.0.8"
    );
}

/// A process whose name is mysqld and whose working directory is `data_dir`.
fn pretend(directory: &std::path::Path, data_dir: &std::path::Path) -> std::process::Child {
    let program = directory.join("mysqld");
    if !program.exists() {
        std::fs::copy("/bin/sleep", &program).unwrap();
    }
    Command::new(program).arg("60").current_dir(data_dir).spawn().unwrap()
}

fn fence(data_dir: &std::path::Path, service: Option<&str>) -> (Option<i32>, String) {
    let data_dir = data_dir.to_str().unwrap().to_owned();
    let service = service.map(str::to_owned);
    let command = RemoteCommand::Fence { data_dir, service, vips: vec![] };
    let output = Command::new("sh").arg("-c").arg(script(&command)).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_fence_kills_the_mysqld_of_that_data_directory_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("our's"), directory.path().join("theirs"));
    std::fs::create_dir(&ours).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    let mut victim = pretend(directory.path(), &ours);
    let mut neighbour = pretend(directory.path(), &theirs);
    let (status, said) = fence(&ours, None);
    let is_dead = victim.wait().unwrap();
    let is_neighbour_alive = neighbour.try_wait().unwrap().is_none();
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
    assert_eq!(said, format!("fence: mysqld pid {} killed\nfence: gone\n", victim.id()));
    assert_eq!((status, is_neighbour_alive), (Some(0), true));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&is_dead), Some(9));
}

#[test]
fn a_supervisor_that_would_start_it_again_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::copy("/bin/sleep", directory.path().join("mysqld")).unwrap();
    let supervisor = directory.path().join("mysqld_safe");
    std::fs::write(&supervisor, "#!/bin/sh\nwhile :; do ../mysqld 60; done\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&supervisor, mode).unwrap();
    let mut supervisor = Command::new(supervisor).current_dir(&data_dir).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (status, said) = fence(&data_dir, None);
    supervisor.wait().unwrap();
    let first = format!("fence: supervisor mysqld_safe pid {} killed\n", supervisor.id());
    assert!(said.starts_with(&first) && said.ends_with(" killed\nfence: gone\n"), "{said}");
    assert_eq!((status, said.lines().count()), (Some(0), 3));
}

#[test]
fn nothing_to_kill_is_a_proof_only_where_data_lies() {
    let directory = tempfile::tempdir().unwrap();
    let (status, said) = fence(directory.path(), None);
    assert_eq!(status, Some(1), "{said}");
    std::fs::write(directory.path().join("mysql.ibd"), "").unwrap();
    let (status, said) = fence(directory.path(), None);
    let shown = directory.path().display();
    assert_eq!(said, format!("fence: no mysqld was running in {shown}\nfence: gone\n"));
    assert_eq!(status, Some(0));
}

#[test]
fn a_unit_that_cannot_be_masked_leaves_the_fence_unproved() {
    if std::path::Path::new("/run/systemd/system").exists() {
        return; // Masking units of the machine that runs the tests is none of our business.
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mysql.ibd"), "").unwrap();
    let (status, said) = fence(directory.path(), Some("mysql.service"));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("no systemd here to mask mysql.service"), "{said}");
}
