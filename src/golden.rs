//! Does the output still read as agreed? Compares with files in `tests/golden`; `REWRITE=1`
//! writes them, and the difference is reviewed like code.

use std::{fs, path::Path};

/// Compares `found` with the file of that name, whole.
pub fn check(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("REWRITE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, found).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("read golden file {name}: {error}; REWRITE=1 writes it. Found:\n{found}")
    });
    assert!(
        wanted == found,
        "{name} differs; REWRITE=1 rewrites it.\n--- wanted\n{wanted}\n--- found\n{found}"
    );
}
