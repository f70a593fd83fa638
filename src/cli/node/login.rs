//! How a tool logs in: MHA's options.

use std::path::PathBuf;

use super::Failure;
use crate::node::login::Login;

/// How to log in to this host's server
#[derive(Debug, clap::Args)]
pub struct LoginArgs {
    /// Account; root by default
    #[arg(long, alias = "slave_user", value_name = "NAME")]
    user: Option<String>,
    /// Its password; everybody on this host can see it here: better in the file of options
    #[arg(long, alias = "slave_pass", env = "CONCLAVE_MYSQL_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Address; 127.0.0.1 by default
    #[arg(long, aliases = ["slave_host", "slave_ip"], value_name = "HOST")]
    host: Option<String>,
    /// Port; 3306 by default
    #[arg(long, alias = "slave_port")]
    port: Option<u16>,
    /// Socket, instead of an address
    #[arg(long, value_name = "FILE")]
    socket: Option<String>,
    /// File of options whose [client] section says the rest
    #[arg(long, alias = "defaults_file", value_name = "FILE")]
    defaults_file: Option<PathBuf>,
}

impl LoginArgs {
    pub(super) fn login(self) -> Result<Login, Failure> {
        let login = Login {
            socket: self.socket,
            host: self.host,
            port: self.port,
            user: self.user,
            password: self.password.map(Into::into),
        };
        match &self.defaults_file {
            Some(file) => login.or_from(file).map_err(Failure::refused),
            None => Ok(login),
        }
    }
}
