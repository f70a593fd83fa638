//! Wrong variants of the product, to show that the simulator would notice: each is a small
//! replacement of text in a file of its own under `mutants/`. The product itself stays free of
//! them.
//!
//! ```text
//!   mutants/NAME.toml --apply--> a copy of the sources --build--> a simulator --seeds--> caught?
//! ```

pub mod hunt;
mod table;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// One wrong variant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What it does wrong, and which rule of SAFETY.md that breaks.
    pub breaks: String,
    /// The scenario that notices it if few seeds do; `None`: it is shown to all of them.
    pub scenario: Option<String>,
    /// The replacements that make it.
    pub edit: Vec<Edit>,
}

/// One replacement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, from the root of the repository.
    pub file: String,
    /// The text to be replaced; it must occur exactly once.
    pub old: String,
    /// What takes its place.
    pub new: String,
}

/// The root of the repository that this simulator was built from.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// All mutants, by name.
///
/// # Errors
/// A file that cannot be read, or says something else than a mutant.
pub fn all(root: &Path) -> io::Result<Vec<Mutant>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join("tests/sim/mutants"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> io::Result<Mutant> {
    let told = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    let mut mutant: Mutant = toml::from_str(&text).map_err(|error| told(error.to_string()))?;
    mutant.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(mutant)
}

impl Mutant {
    /// The files that it changes, as they are with it.
    ///
    /// # Errors
    /// Why it does not apply: a file is gone, or the old text is not found exactly once.
    pub fn apply(&self, root: &Path) -> Result<BTreeMap<String, String>, String> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for Edit { file, old, new } in &self.edit {
            let text = match files.get(file) {
                Some(text) => text.clone(),
                None => fs::read_to_string(root.join(file))
                    .map_err(|error| format!("{}: read {file}: {error}", self.name))?,
            };
            match text.matches(old.as_str()).count() {
                1 if old != new => files.insert(file.clone(), text.replacen(old, new, 1)),
                1 => return Err(format!("{}: it changes nothing in {file}", self.name)),
                found => {
                    let name = &self.name;
                    return Err(format!("{name}: wanted once in {file}, found {found}:\n{old}"));
                }
            };
        }
        Ok(files)
    }
}
