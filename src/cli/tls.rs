//! `conclave tls init`.

use std::{path::PathBuf, str::FromStr};

use clap::Subcommand;

use super::{Done, Failure};
use crate::tls;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a private authority, and certificates for managers and operators
    ///
    /// Nothing that is there is overwritten. A certificate named admin for the command line is
    /// made in any case.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example:
  conclave tls init --dir tls --manager m1=192.0.2.11,mgr1.example.com --manager m2=192.0.2.12 \\
                    --manager m3=192.0.2.13 --operator alice

makes in tls/: ca.pem, ca.key, and NAME.pem, NAME.key for m1, m2, m3, alice and admin.
Copy to each manager ca.pem and its own pair. Keep ca.key away from all of them: who has it can
make certificates, which is needed again only to add some."
    )]
    Init {
        /// Directory to write to
        #[arg(long, default_value = "tls")]
        dir: PathBuf,
        /// A manager, with every address and name that it is called by
        #[arg(long = "manager", required = true, value_name = "NAME=ADDRESS,...")]
        named: Vec<Manager>,
        /// An operator; the name is recorded with what they ask for
        #[arg(long = "operator", value_name = "NAME")]
        operators: Vec<String>,
    },
}

/// A manager on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    name: String,
    addresses: Vec<String>,
}

impl FromStr for Manager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, list) = text.split_once('=').unwrap_or((text, ""));
        let addresses: Vec<String> =
            list.split(',').map(str::trim).filter(|a| !a.is_empty()).map(Into::into).collect();
        match addresses.is_empty() || name.is_empty() {
            true => Err(format!("wanted NAME=ADDRESS,... such as m1=192.0.2.11, found {text:?}")),
            false => Ok(Self { name: name.to_owned(), addresses }),
        }
    }
}

pub(super) fn run(command: Command) -> Done {
    let Command::Init { dir, named, operators } = command;
    let managers = named.into_iter().map(|manager| (manager.name, manager.addresses));
    let operators = operators.into_iter().map(|name| (name, Vec::new()));
    let names: Vec<tls::Name> = managers.chain(operators).collect();
    tls::init(&dir, &names).map_err(Failure::refused)?;
    let made: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).chain([tls::ADMIN]).collect();
    println!("{}: an authority, and certificates for {}", dir.display(), made.join(", "));
    println!("keep {} apart: who has it can make certificates", dir.join("ca.key").display());
    Ok(0)
}
