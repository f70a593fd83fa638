//! How a node tool logs in to the server of its own host.

use std::{fmt, fs, path::Path};

use mysql_async::OptsBuilder;
use secrecy::{ExposeSecret, SecretString};

use super::disk::{DiskError, io_error};

/// Where, as whom.
#[derive(Clone, Default)]
pub struct Login {
    /// A socket; it goes before an address.
    pub socket: Option<String>,
    /// Address; 127.0.0.1 by default.
    pub host: Option<String>,
    /// Port; 3306 by default.
    pub port: Option<u16>,
    /// Account; root by default.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or("root");
        write!(f, "Login({user} at {:?} {:?} {:?})", self.socket, self.host, self.port)
    }
}

impl Login {
    /// What is not given, from the `[client]` section of a file of options.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn or_from(self, file: &Path) -> Result<Self, DiskError> {
        let doing = || format!("read {}", file.display());
        let text = fs::read_to_string(file).map_err(|cause| io_error(doing(), cause))?;
        Ok(self.or(&Self::parse(&text)))
    }

    fn or(self, other: &Self) -> Self {
        Self {
            socket: self.socket.or_else(|| other.socket.clone()),
            host: self.host.or_else(|| other.host.clone()),
            port: self.port.or(other.port),
            user: self.user.or_else(|| other.user.clone()),
            password: self.password.or_else(|| other.password.clone()),
        }
    }

    /// The section as clients read it: `key = value`, blanks and quotes round the value left out;
    /// later lines win.
    fn parse(text: &str) -> Self {
        let mut login = Self::default();
        let mut is_client = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                is_client = line == "[client]";
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_client) else { continue };
            let value = value.trim();
            let inner = ['"', '\'']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            let value = inner.unwrap_or(value).to_owned();
            match key.trim() {
                "socket" => login.socket = Some(value),
                "host" => login.host = Some(value),
                "port" => login.port = value.parse().ok(),
                "user" => login.user = Some(value),
                "password" => login.password = Some(value.into()),
                _ => {}
            }
        }
        login
    }

    /// As the driver wants it.
    pub(super) fn options(&self) -> OptsBuilder {
        let host = self.host.clone().unwrap_or_else(|| "127.0.0.1".into());
        let password = self.password.as_ref().map(|secret| secret.expose_secret().to_owned());
        OptsBuilder::default()
            .socket(self.socket.clone())
            .prefer_socket(false)
            .ip_or_hostname(host)
            .tcp_port(self.port.unwrap_or(3306))
            .user(Some(self.user.clone().unwrap_or_else(|| "root".into())))
            .pass(password)
    }

    /// The same as a `[client]` section, for the server's own programs.
    pub(super) fn section(&self) -> String {
        let quoted = |text: &str| {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{text}\"")
        };
        let mut lines = vec!["[client]".to_owned()];
        let user = self.user.as_deref().unwrap_or("root");
        lines.push(format!("user={}", quoted(user)));
        if let Some(password) = &self.password {
            lines.push(format!("password={}", quoted(password.expose_secret())));
        }
        match &self.socket {
            Some(socket) => lines.push(format!("socket={}", quoted(socket))),
            None => {
                lines.push(format!("host={}", quoted(self.host.as_deref().unwrap_or("127.0.0.1"))));
                lines.push(format!("port={}", self.port.unwrap_or(3306)));
            }
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_goes_before_the_file_and_other_sections_are_left_alone() {
        let text = "[mysqld]\nuser=mysql\n[client]\n# user = no\nuser = app\npassword=\"a=b c\"\n\
                    port=3307\n[mysql]\nuser=other\n";
        let login = Login { user: Some("me".into()), ..Login::default() }.or(&Login::parse(text));
        let secret = login.password.as_ref().map(|secret| secret.expose_secret().to_owned());
        assert_eq!(login.user.as_deref(), Some("me"));
        assert_eq!((login.port, secret.as_deref()), (Some(3307), Some("a=b c")));
        assert_eq!((login.socket, login.host), (None, None));
    }

    #[test]
    fn a_password_is_in_the_section_and_nowhere_else() {
        let password: SecretString = "p\"w\\".to_owned().into();
        let login = Login { password: Some(password), ..Login::default() };
        let section =
            "[client]\nuser=\"root\"\npassword=\"p\\\"w\\\\\"\nhost=\"127.0.0.1\"\nport=3306\n";
        assert_eq!(login.section(), section);
        assert!(!format!("{login:?}").contains("p\""), "{login:?}");
    }
}
