//! How does a real MySQL 9.7 (or MariaDB) get here without touching the machine's packages?
//!
//! A private set of apt directories (own lists, empty package status) downloads the server's whole
//! dependency closure from Debian unstable, on the mirror that the machine already uses. It is
//! unpacked below the cache folder, and `patchelf` makes every program use its own loader and
//! libraries by absolute path: no chroot, no wrapper, the process is still called `mysqld`.
//!
//! ```text
//! CACHE/lock            one installer at a time
//! CACHE/mysql97/bin/    mysqld, mysql, mysqlbinlog ...   (.done when complete)
//! CACHE/mariadb/        the same of MariaDB, on demand only (see [`crate::mariadb`])
//! CACHE/template-N/     a pre-initialised data directory (see [`crate::template`])
//! CACHE/apt/            the private apt directories
//! ```

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::template;

/// The script that brings missing Debian packages; the same that a person may run by hand.
const TOOLS_SCRIPT: &str = include_str!("../../../deploy/install-tools.sh");
/// Packages of the closure that mysqld and its clients do not need.
const SKIP: &[&str] =
    &["perl", "libperl", "libgdbm", "libdb5", "openssl-provider-legacy", "libc-gconv", "gcc-"];

/// A server that can be installed.
pub(crate) struct Product {
    /// Its folder below the cache.
    pub folder: &'static str,
    pub title: &'static str,
    /// Debian packages of server and client.
    pub packages: [&'static str; 2],
    /// How the names of its programs begin; no other is kept.
    pub programs: &'static [&'static str],
}

const MYSQL: Product = Product {
    folder: "mysql97",
    title: "MySQL 9.7",
    packages: ["mysql-server-core", "mysql-client-core"],
    programs: &["my", "ibd2sdi", "innochecksum"],
};

/// Where the servers are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    cache: PathBuf,
}

impl Install {
    /// The cache folder: `CONCLAVE_LAB_CACHE`, by default `/var/cache/conclave-lab`.
    pub fn default_cache() -> PathBuf {
        std::env::var_os("CONCLAVE_LAB_CACHE")
            .map_or_else(|| PathBuf::from("/var/cache/conclave-lab"), PathBuf::from)
    }

    /// An installation that is known to be there.
    pub(crate) fn at(cache: &Path) -> Install {
        Install { cache: cache.to_path_buf() }
    }

    /// Installs what is missing: Debian packages, MySQL, the template. Nothing to do takes
    /// milliseconds. Several processes may call it at once.
    ///
    /// # Errors
    /// Not root, no network to the Debian mirror, a full disk. An incomplete installation is
    /// thrown away by the next call.
    pub fn ensure() -> Result<Install> {
        Install::ensure_in(&Install::default_cache())
    }

    /// As [`Install::ensure`], in a given cache folder.
    ///
    /// # Errors
    /// As [`Install::ensure`].
    pub fn ensure_in(cache: &Path) -> Result<Install> {
        crate::ns::require_root()?;
        fs::create_dir_all(cache).context(|| format!("make cache folder {}", cache.display()))?;
        let install = Install { cache: cache.to_path_buf() };
        let _lock = install.lock()?;
        install_tools()?;
        install.fetch(&MYSQL)?;
        template::ensure(&install)?;
        Ok(install)
    }

    /// Held by whoever installs something.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.cache.join("lock");
        let lock = File::create(&path).context(|| format!("open {}", path.display()))?;
        lock.lock().context(|| format!("lock {}", path.display()))?;
        Ok(lock)
    }

    /// The folder with `bin/mysqld`, `bin/mysql`, `bin/mysqlbinlog`.
    pub fn prefix(&self) -> PathBuf {
        self.cache.join(MYSQL.folder)
    }

    /// A program of the MySQL installation, by its name.
    pub fn program(&self, name: &str) -> PathBuf {
        self.prefix().join("bin").join(name)
    }

    /// The cache folder itself.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Installs a server unless it is there. The caller holds [`Install::lock`].
    pub(crate) fn fetch(&self, product: &Product) -> Result<()> {
        let prefix = self.cache.join(product.folder);
        let done = prefix.join(".done");
        if done.exists() {
            return Ok(());
        }
        eprintln!("conclave-lab: installing {} into {}", product.title, prefix.display());
        let part = self.cache.join(format!("{}.part", product.folder));
        let _ = fs::remove_dir_all(&part);
        let _ = fs::remove_dir_all(&prefix);
        let apt = self.private_apt()?;
        let debs = self.download(&apt, product)?;
        unpack(&debs, &part)?;
        prune(&part, product)?;
        relink(&part, &prefix)?;
        let _ = fs::remove_dir_all(&debs);
        fs::rename(&part, &prefix).context(|| "move the installation in place".into())?;
        fs::write(&done, b"").context(|| format!("write {}", done.display()))
    }

    /// Writes an apt configuration that shares nothing with the machine's, and fetches the lists.
    fn private_apt(&self) -> Result<PathBuf> {
        let dir = self.cache.join("apt");
        for sub in ["lists/partial", "cache/archives/partial", "state", "etc"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).context(|| format!("make {}", path.display()))?;
        }
        let d = dir.display();
        let conf = format!(
            "Dir::State \"{d}/state\";\nDir::State::lists \"{d}/lists\";\n\
             Dir::State::status \"{d}/status\";\nDir::Cache \"{d}/cache\";\n\
             Dir::Etc::sourcelist \"{d}/etc/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\nAcquire::Check-Valid-Until \"false\";\n\
             Acquire::Retries \"4\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n"
        );
        let source = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} sid main\n",
            mirror()?
        );
        let conf_path = dir.join("apt.conf");
        let files = [
            (dir.join("status"), String::new()),
            (dir.join("etc/sources.list"), source),
            (conf_path.clone(), conf),
        ];
        for (path, text) in files {
            fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        }
        run("fetch package lists", apt_get(&conf_path).args(["-qq", "update"]))?;
        Ok(conf_path)
    }

    /// Downloads the closure of server and client, and returns the folder that holds it.
    fn download(&self, apt_conf: &Path, product: &Product) -> Result<PathBuf> {
        let mut simulate = apt_get(apt_conf);
        simulate.args(["install", "-s", "--no-install-recommends"]);
        simulate.args(product.packages);
        let plan = run(&format!("resolve what {} needs", product.title), &mut simulate)?;
        let packages = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
            .filter(|name| !SKIP.iter().any(|skip| name.starts_with(skip)))
            .filter(|name| *name != "mysql-common");
        let debs = self.cache.join("debs");
        let _ = fs::remove_dir_all(&debs);
        fs::create_dir_all(&debs).context(|| format!("make {}", debs.display()))?;
        let mut download = apt_get(apt_conf);
        download.args(["-qq", "download"]).args(packages).current_dir(&debs);
        run(&format!("download {}", product.title), &mut download)?;
        Ok(debs)
    }
}

/// Runs `install-tools.sh`, which is silent when nothing is missing.
fn install_tools() -> Result<()> {
    run("install Debian packages", Command::new("bash").args(["-c", TOOLS_SCRIPT])).map(|_| ())
}

/// The Debian mirror that this machine uses, or the general one.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let uris = run("ask apt for its mirror", &mut targets)?;
    let mirror = uris.lines().map(|uri| uri.trim_end_matches('/')).find(|u| u.ends_with("/debian"));
    Ok(mirror.unwrap_or("http://deb.debian.org/debian").to_owned())
}

fn apt_get(conf: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.env("APT_CONFIG", conf);
    command
}

/// Unpacks all packages into a prefix with a merged `/usr`, so that old and new layouts meet.
fn unpack(debs: &Path, prefix: &Path) -> Result<()> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let path = prefix.join("usr").join(dir);
        fs::create_dir_all(&path).context(|| format!("make {}", path.display()))?;
        symlink(format!("usr/{dir}"), prefix.join(dir))
            .context(|| format!("link {dir} in {}", prefix.display()))?;
    }
    for deb in entries(debs)? {
        let mut tarball = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&deb)
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("start dpkg-deb on {}", deb.display()))?;
        let stdout = tarball.stdout.take().expect("stdout is piped");
        let mut tar = Command::new("tar");
        tar.args(["-x", "--keep-directory-symlink", "-C"]).arg(prefix).stdin(stdout);
        run(&format!("unpack {}", deb.display()), &mut tar)?;
        tarball.wait().context(|| format!("wait for dpkg-deb on {}", deb.display()))?;
    }
    Ok(())
}

/// Drops documentation and every program that is not the server's own.
fn prune(prefix: &Path, product: &Product) -> Result<()> {
    for dir in ["doc", "man", "locale", "i18n"] {
        let _ = fs::remove_dir_all(prefix.join("usr/share").join(dir));
    }
    for program in programs(prefix)? {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = product.programs.iter().any(|begin| name.starts_with(begin));
        if !is_ours {
            fs::remove_file(&program).context(|| format!("remove {}", program.display()))?;
        }
    }
    Ok(())
}

/// Makes every program run with the prefix's own loader and libraries, by absolute path, and
/// gathers all of them in `bin`.
fn relink(build: &Path, prefix: &Path) -> Result<()> {
    let (loader, libs) = loader(build)?;
    let rpath = format!(
        "{}:{}",
        prefix.join(&libs).display(),
        prefix.join("usr/lib/mysql/private").display()
    );
    for dir in ["bin", "sbin"] {
        fs::remove_file(build.join(dir)).context(|| format!("replace link {dir}"))?;
    }
    fs::create_dir(build.join("bin")).context(|| "make bin".into())?;
    for program in programs(build)? {
        let bytes = fs::read(&program).context(|| format!("read {}", program.display()))?;
        if bytes.starts_with(b"\x7fELF") {
            let mut patchelf = Command::new("patchelf");
            patchelf.arg("--set-interpreter").arg(prefix.join(&loader));
            patchelf.args(["--force-rpath", "--set-rpath", &rpath]).arg(&program);
            run(&format!("relink {}", program.display()), &mut patchelf)?;
        }
        let name = program.file_name().expect("a directory entry has a name");
        let inside = program.strip_prefix(build).expect("listed below build");
        symlink(Path::new("..").join(inside), build.join("bin").join(name))
            .context(|| format!("link {}", program.display()))?;
    }
    Ok(())
}

/// The dynamic loader and the library folder of this machine's architecture, below the prefix.
fn loader(build: &Path) -> Result<(PathBuf, PathBuf)> {
    for libs in entries(&build.join("usr/lib"))?.into_iter().filter(|path| path.is_dir()) {
        for file in entries(&libs)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("ld-linux") {
                let inside = |path: &Path| path.strip_prefix(build).map(Path::to_path_buf);
                if let (Ok(loader), Ok(libs)) = (inside(&file), inside(&libs)) {
                    return Ok((loader, libs));
                }
            }
        }
    }
    Err(Error::Malformed {
        what: "find the dynamic loader in the downloaded packages".into(),
        wanted: "usr/lib/ARCHITECTURE/ld-linux*".into(),
        found: build.display().to_string(),
    })
}

/// The regular files in the prefix's program folders.
fn programs(prefix: &Path) -> Result<Vec<PathBuf>> {
    let mut all = entries(&prefix.join("usr/bin"))?;
    all.extend(entries(&prefix.join("usr/sbin"))?);
    all.retain(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
    Ok(all)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).context(|| format!("list {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.context(|| format!("list {}", dir.display()))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(|| format!("{what}: start {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Program { what: what.into(), program, status: output.status.to_string(), stderr })
}
