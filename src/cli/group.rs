//! `conclave group init`.

use std::str::FromStr;

use clap::Subcommand;

use super::{
    Done,
    reach::{Reach, caller, tell},
};
use crate::api::pb::{GroupInitRequest, GroupMember};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say, once, that these managers are a group
    ///
    /// The managers must run and be empty. The first one named is asked, and gives the others the
    /// group's new id. If it fails half-way, say it again in the same words.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example:
  conclave group init --members 1=192.0.2.11:7300,r1 2=192.0.2.12:7300,r2 3=192.0.2.13:7300,r3

Ids and addresses are those of the manager.toml files (id, advertise). Three managers bear the
loss of one, five of two. They should stand in different racks, with none holding a majority."
    )]
    Init {
        /// Every manager of the group
        #[arg(long, required = true, num_args = 1.., value_name = "ID=HOST:PORT,RACK")]
        members: Vec<Member>,
    },
}

/// A manager on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    id: u64,
    address: String,
    rack: String,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("wanted ID=HOST:PORT,RACK such as 1=192.0.2.11:7300,r1, found {text:?}");
        let (id, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (address, rack) = rest.split_once(',').ok_or_else(wrong)?;
        let id = id.trim().parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
        if !crate::config::is_host_port(address) || rack.trim().is_empty() {
            return Err(wrong());
        }
        Ok(Self { id, address: address.to_owned(), rack: rack.trim().to_owned() })
    }
}

pub(super) async fn run(reach: &Reach, command: Command) -> Done {
    let Command::Init { members } = command;
    let first: Vec<String> = members.iter().take(1).map(|m| m.address.clone()).collect();
    let mut there = reach.managers_at(first)?.any().await?;
    let count = members.len();
    let members = members
        .into_iter()
        .map(|Member { id, address, rack }| GroupMember { id, address, rack })
        .collect();
    let reply = tell(there.group_init(GroupInitRequest { caller: caller(), members })).await?;
    for warning in reply.warnings {
        println!("note: {warning}");
    }
    println!("{count} managers are now the group {}", reply.group);
    Ok(0)
}
