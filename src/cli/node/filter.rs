//! `conclave node filter-mysqlbinlog`.

use std::io;

use super::{Done, Failure};
use crate::node::filter;

/// Make mysqlbinlog's output fit to be put together with others
///
/// Reads from the standard input and writes to the standard output: what mysqlbinlog adds on its own
/// account at a server's start and at the end of a text, and would roll back a transaction that
/// goes on in the next one, becomes a comment. Rows and statements are not looked at. Files that
/// save-binary-logs makes do not need it.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {}

pub(super) fn run(_args: &Args) -> Done {
    filter::filter(io::stdin().lock(), io::stdout().lock())
        .map_err(|error| Failure::refused(format!("copy standard input to output: {error}")))?;
    Ok(0)
}
